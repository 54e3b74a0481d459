// Attention with AVX2 and FMA: eight lanes of two codes of 16 bits. pmaddwd sums pairs of products in 32 bits, where
// pmaddubsw on codes of 8 bits would saturate at 16. Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include <type_traits>

#include "kernels/attention.h"

namespace edgefm {
namespace {

typedef int16_t Code;
constexpr int kCodes = 2, kQueryOffset = 0, kProbabilityOffset = 0, kOnes = 0x00010001;

}  // namespace
}  // namespace edgefm

#include "attention_avx2.inl"

namespace edgefm {
namespace {

inline Ints dot(Ints sum, Ints x, Ints y) {
    return sum + (Ints)_mm256_madd_epi16((__m256i)x, (__m256i)y);
}
inline void store_codes(Code* p, Ints v) {
    const __m128i low = _mm256_castsi256_si128((__m256i)v), high = _mm256_extracti128_si256((__m256i)v, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(low, high));
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_ATTENTION_UNIT attention_avx2
#include "kernels/attention_rows.inl"
