// Attention with SSE4.1: four lanes of two codes of 16 bits. pmaddwd sums pairs of products in 32 bits, where pmaddubsw on
// codes of 8 bits would saturate at 16.

#include <smmintrin.h>

#include <type_traits>

#include "kernels/attention.h"

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef int16_t Code;
constexpr int kLanes = 4, kCodes = 2, kVectors = 2;
constexpr bool kRoundsOnce = false;
constexpr int kQueryOffset = 0, kProbabilityOffset = 0, kOnes = 0x00010001;

}  // namespace
}  // namespace edgefm

#include "fused_sse41.inl"

namespace edgefm {
namespace {

inline Ints dot(Ints sum, Ints x, Ints y) {
    return sum + (Ints)_mm_madd_epi16((__m128i)x, (__m128i)y);
}
inline Ints splat(int32_t x) {
    return (Ints)_mm_set1_epi32(x);
}
inline Floats splat_float(float x) {
    return _mm_set1_ps(x);
}
inline Floats load_part(const float* p, int) {  // widths are multiples of eight
    return _mm_loadu_ps(p);
}
inline void store_part(float* p, Floats v, int) {
    _mm_storeu_ps(p, v);
}
inline void store_codes(Code* p, Ints v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32((__m128i)v, (__m128i)v));
}
inline Floats maximum(Floats a, Floats b) {
    return _mm_max_ps(a, b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)_mm_max_epi32((__m128i)a, (__m128i)b);
}
inline Ints round(Floats v) {
    return (Ints)_mm_cvtps_epi32(v);
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_ATTENTION_UNIT attention_sse41
#include "kernels/attention_rows.inl"
