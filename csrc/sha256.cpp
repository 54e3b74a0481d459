#include "sha256.h"

#include <algorithm>
#include <cstring>

#include "cpu_features.h"
#include "isa/sha256_kernels.h"

namespace edgefm {
namespace {

inline uint32_t rotate(uint32_t x, int n) {
    return (x >> n) | (x << (32 - n));
}

// FIPS 180-4, section 6.2.2, with its names.
void compress_portable(uint32_t state[8], const uint8_t* data, size_t blocks) {
    for (; blocks != 0; --blocks, data += 64) {
        uint32_t w[64];
        for (int t = 0; t < 16; ++t) {
            const uint8_t* p = data + 4 * t;
            w[t] = uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
        }
        for (int t = 16; t < 64; ++t) {
            const uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ (w[t - 15] >> 3);
            const uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ (w[t - 2] >> 10);
            w[t] = s1 + w[t - 7] + s0 + w[t - 16];
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; ++t) {
            const uint32_t t1 =
                h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + kSha256Round[t] + w[t];
            const uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

}  // namespace

const uint32_t kSha256Round[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

Compress portable_sha256() {
    return compress_portable;
}

Compress best_sha256() {
#if defined(__x86_64__)
    static const bool present = [] {
        bool sha = false, sse41 = false;
        for (const auto& [name, usable] : cpu_features()) {
            sha = sha || (name == "sha_ni" && usable);
            sse41 = sse41 || (name == "sse4_2" && usable);  // which implies SSE4.1 and SSSE3
        }
        return sha && sse41;
    }();
    if (present) return compress_sha_ni;
#endif
    return compress_portable;
}

void Sha256::update(const uint8_t* data, size_t size) {
    if (size == 0) return;
    const size_t held = size_ % 64;
    size_ += size;
    if (held != 0) {
        const size_t taken = std::min(64 - held, size);
        std::memcpy(rest_ + held, data, taken);
        data += taken, size -= taken;
        if (held + taken < 64) return;
        compress_(state_, rest_, 1);
    }
    if (size >= 64) compress_(state_, data, size / 64);
    std::memcpy(rest_, data + size / 64 * 64, size % 64);
}

Digest Sha256::finish() {
    const uint64_t bits = size_ * 8;
    uint8_t padding[72] = {0x80};
    const size_t zeros = 1 + (119 - size_ % 64) % 64;  // to 8 bytes before the end of a block
    for (int i = 0; i < 8; ++i) padding[zeros + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    update(padding, zeros + 8);
    Digest digest;
    for (int i = 0; i < 32; ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return digest;
}

Digest sha256(const uint8_t* data, size_t size) {
    Sha256 hash;
    hash.update(data, size);
    return hash.finish();
}

std::string hexadecimal(const Digest& digest) {
    std::string text;
    for (const uint8_t byte : digest) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

}  // namespace edgefm
