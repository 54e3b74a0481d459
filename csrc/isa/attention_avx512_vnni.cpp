// Attention with AVX-512 (F, BW, DQ, VL) and VNNI: sixteen lanes of four codes, u8 times s8.
// Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include <type_traits>

#include "kernels/attention.h"

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint8_t Code;
constexpr int kLanes = 16, kCodes = 4, kVectors = 4;
constexpr bool kRoundsOnce = true;
constexpr int kQueryOffset = 128, kProbabilityOffset = 0, kOnes = 0x01010101;

inline Ints dot(Ints sum, Ints x, Ints y) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)y);
}
inline Ints splat(int32_t x) {
    return (Ints)_mm512_set1_epi32(x);
}
inline Floats splat_float(float x) {
    return _mm512_set1_ps(x);
}
inline __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>(count >= kLanes ? 0xffff : (1 << count) - 1);
}
inline Floats load_part(const float* p, int count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), p);
}
inline void store_part(float* p, Floats v, int count) {
    _mm512_mask_storeu_ps(p, first_lanes(count), v);
}
inline void store_codes(Code* p, Ints v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)v));
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline Floats maximum(Floats a, Floats b) {
    return _mm512_max_ps(a, b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)_mm512_max_epi32((__m512i)a, (__m512i)b);
}
inline Ints round(Floats v) {
    return (Ints)_mm512_cvtps_epi32(v);
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_ATTENTION_UNIT attention_avx512_vnni
#include "kernels/attention_rows.inl"
