// An open `.efm` file: every byte checked, members in place.
// Not what runs it (vit_encoder.h), and not the C interface (capi.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bundle_error.h"
#include "bundle_layout.h"
#include "manifest.h"
#include "mapping.h"

namespace edgefm {

// Immutable once made; safe to read from several threads.
class Bundle {
  public:
    // Both do the checks of docs/efm-format.md, "Reading", in their order, hashing with at most `threads` threads. Throw
    // BundleError with what is wrong, FileError where the file cannot be mapped, std::bad_alloc.
    Bundle(const char* path, int threads);
    // `data` must outlive the bundle; it is used in place if its address is a multiple of 64, else copied.
    Bundle(const uint8_t* data, size_t size, int threads);

    const std::string& id() const { return id_; }  // SHA-256 of the manifest, 64 hexadecimal digits
    const Manifest& manifest() const { return manifest_; }
    const PreprocessSpec& preprocess() const { return preprocess_; }

    // The bytes of a member, 64-byte aligned. Throws BundleError if there is none of this name.
    struct View {
        const uint8_t* data = nullptr;
        size_t size = 0;
    };
    View view(std::string_view name) const;

  private:
    void check(int threads);
    void check_listing() const;
    void check_references() const;
    void check_chunks(int threads) const;
    const Member* find(std::string_view name) const;
    const Member& member(std::string_view name) const;
    std::string_view json(std::string_view name) const;

    std::unique_ptr<Mapping> mapping_;
    std::vector<uint8_t> copy_;
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
    std::vector<Member> members_;
    size_t listed_ = 0;  // members before the appended ones, manifest.json among them
    std::string id_;
    Manifest manifest_;
    PreprocessSpec preprocess_;
};

}  // namespace edgefm
