// A file as bytes in memory, read only. Not a copy: pages come as they are touched, and can be let go again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace edgefm {

class FileError : public std::runtime_error {
    using runtime_error::runtime_error;
};

class Mapping {
  public:
    // Throws FileError with what was found: no such file, a folder, a device, an empty file, no permission.
    explicit Mapping(const char* path);
    ~Mapping();
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

    // Lets the whole pages between two offsets go until they are used again: they no longer count as this process's memory.
    void forget(size_t start, size_t stop) const noexcept;

  private:
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace edgefm
