// SHA-256 (FIPS 180-4): at once, in pieces, or of many chunks with all cores.
// Not a signature: a digest says that bytes are the same, not who made them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace edgefm {

using Digest = std::array<uint8_t, 32>;

// The rounds for `blocks` blocks of 64 bytes. Chosen once: the processor's own instructions where it has them.
using Compress = void (*)(uint32_t state[8], const uint8_t* data, size_t blocks);
Compress portable_sha256();
Compress best_sha256();

class Sha256 {
  public:
    explicit Sha256(Compress compress = best_sha256()) : compress_(compress) {}
    void update(const uint8_t* data, size_t size);
    Digest finish();  // once; the object is used up

  private:
    Compress compress_;
    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint64_t size_ = 0;
    uint8_t rest_[64];  // the bytes of a block that is not full yet
};

Digest sha256(const uint8_t* data, size_t size);
std::string hexadecimal(const Digest& digest);  // 64 lower-case digits

}  // namespace edgefm
