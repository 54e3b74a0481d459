// Attention with AVX2, FMA and AVX-VNNI: eight lanes of four codes, u8 times s8.
// Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include <type_traits>

#include "kernels/attention.h"

namespace edgefm {
namespace {

typedef uint8_t Code;
constexpr int kCodes = 4, kQueryOffset = 128, kProbabilityOffset = 0, kOnes = 0x01010101;

}  // namespace
}  // namespace edgefm

#include "attention_avx2.inl"

namespace edgefm {
namespace {

inline Ints dot(Ints sum, Ints x, Ints y) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)y);
}
inline void store_codes(Code* p, Ints v) {
    const __m256i low = (__m256i)(v & splat(255));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_ATTENTION_UNIT attention_avx_vnni
#include "kernels/attention_rows.inl"
