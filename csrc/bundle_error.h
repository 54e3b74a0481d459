// Why a bundle is not used. Not the numbers of the C interface: capi.cpp maps these to them.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace edgefm {

class BundleError : public std::runtime_error {
  public:
    enum class Kind { damaged, newer };

    // The message is "FOUND; expected EXPECTED", or FOUND alone.
    explicit BundleError(const std::string& found, const std::string& expected = "", Kind kind = Kind::damaged)
        : std::runtime_error(expected.empty() ? found : found + "; expected " + expected), kind_(kind) {}

    Kind kind() const { return kind_; }

  private:
    Kind kind_;
};

BundleError newer_format(int64_t format);

}  // namespace edgefm
