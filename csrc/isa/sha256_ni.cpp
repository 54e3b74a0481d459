// SHA-256 with the SHA extensions. Each `rounds` instruction does two rounds; the processor wants the state as ABEF and CDGH.
// Source: Intel, "Intel SHA Extensions", 2013.

#include <immintrin.h>

#include "sha256_kernels.h"

namespace edgefm {
namespace {

struct State {
    __m128i abef, cdgh;
};

inline __m128i constants(int t) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(kSha256Round + t));
}

// Four rounds with the message words `w` of rounds t to t + 3.
inline void rounds(State& s, __m128i w, int t) {
    const __m128i sum = _mm_add_epi32(w, constants(t));
    s.cdgh = _mm_sha256rnds2_epu32(s.cdgh, s.abef, sum);
    s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

// The four words after w0 .. w3: sigma0 and w[t - 16] by msg1, w[t - 7] by the shifted pair, sigma1 by msg2.
inline __m128i schedule(__m128i w0, __m128i w1, __m128i w2, __m128i w3) {
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    return _mm_sha256msg2_epu32(sum, w3);
}

inline __m128i load(const uint8_t* p) {
    const __m128i reverse = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), reverse);
}

}  // namespace

void compress_sha_ni(uint32_t state[8], const uint8_t* data, size_t blocks) {
    const __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(state)), 0xb1);
    const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4)), 0x1b);
    State s = {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0)};
    for (; blocks != 0; --blocks, data += 64) {
        const State before = s;
        __m128i w0 = load(data), w1 = load(data + 16), w2 = load(data + 32), w3 = load(data + 48);
        rounds(s, w0, 0);
        rounds(s, w1, 4);
        rounds(s, w2, 8);
        rounds(s, w3, 12);
        for (int t = 16; t < 64; t += 16) {
            w0 = schedule(w0, w1, w2, w3);
            rounds(s, w0, t);
            w1 = schedule(w1, w2, w3, w0);
            rounds(s, w1, t + 4);
            w2 = schedule(w2, w3, w0, w1);
            rounds(s, w2, t + 8);
            w3 = schedule(w3, w0, w1, w2);
            rounds(s, w3, t + 12);
        }
        s.abef = _mm_add_epi32(s.abef, before.abef);
        s.cdgh = _mm_add_epi32(s.cdgh, before.cdgh);
    }
    const __m128i feba = _mm_shuffle_epi32(s.abef, 0x1b), dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace edgefm
