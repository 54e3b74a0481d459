// The checksum of ZIP headers (ISO 3309, reflected, polynomial 0xedb88320). Not a digest: it finds accidents, not attacks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgefm {

inline uint32_t crc32(const uint8_t* data, size_t size) {
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0u);
        table[i] = value;
    }
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; ++i) crc = table[(crc ^ data[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

}  // namespace edgefm
