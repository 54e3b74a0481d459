// Linear layers with AVX2 and FMA, without VNNI; six rows by eight columns in registers. Run it only where CPUID and XGETBV
// allow it.
//
// No sum saturates. pmaddubsw adds pairs of u8 * s8 in 16 bits, which 255 * 127 * 2 leaves behind. So codes and weights are
// widened to 16 bits, four codes of a row are spread over a register, and pmaddwd adds pairs of their products in 32 bits: for
// each column two sums, of k even pairs and odd pairs, which are added at the end of k.

#include <immintrin.h>

#include "kernels/linear.h"

namespace edgefm {
namespace {

typedef int16_t Code;
constexpr int kPair = 8;
constexpr char kFlip = 0;

}  // namespace
}  // namespace edgefm

#include "linear_ymm.inl"

namespace edgefm {
namespace {

typedef Ints Weights;

inline Weights load_weights(const int8_t* p) {
    return (Ints)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Weights splat_codes(const int16_t* p) {
    int64_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return (Ints)_mm256_set1_epi64x(four);
}
inline Ints dot(Ints total, Weights code, Weights weight) {
    return total + (Ints)_mm256_madd_epi16((__m256i)code, (__m256i)weight);
}
inline Ints start(const int32_t*) {
    return splat(0);
}
inline void store_sums(int32_t* p, Ints a, Ints b) {  // hadd interleaves a and b by lanes of 128 bits: columns 0 1 4 5 2 3 6 7
    const __m256i folded = _mm256_permute4x64_epi64(_mm256_hadd_epi32((__m256i)a, (__m256i)b), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), folded);
}
inline void widen(const uint8_t* code, int k, int16_t* out) {
    int i = 0;
    for (; i + 16 <= k; i += 16) {
        const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(code + i));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_cvtepi8_epi16(codes));
    }
    for (; i < k; ++i) out[i] = static_cast<int8_t>(code[i]);
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_LINEAR_UNIT linear_avx2
#define EDGEFM_ROWS 6
#include "kernels/linear.inl"
