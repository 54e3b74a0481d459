// SHA-256's rounds on instructions of its own, and the constants that every version of them needs.
// Not inline code: units of different flags include this.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace edgefm {

extern const uint32_t kSha256Round[64];  // FIPS 180-4, section 4.2.2

#if defined(__x86_64__)
void compress_sha_ni(uint32_t state[8], const uint8_t* data, size_t blocks);
#endif

}  // namespace edgefm
