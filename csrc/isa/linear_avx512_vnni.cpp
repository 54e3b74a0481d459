// Linear layers with AVX-512 (F, BW, DQ, VL) and VNNI: sixteen lanes of four codes, u8 times s8; twelve rows by 32 columns in
// registers. Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include "kernels/linear.h"

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef Ints Weights;
typedef uint8_t Code;
constexpr int kLanes = 16, kPair = 32;
constexpr bool kRoundsOnce = true;

inline Ints splat(int32_t x) {
    return (Ints)_mm512_set1_epi32(x);
}
inline Floats splat_float(float x) {
    return _mm512_set1_ps(x);
}
inline __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>((1 << count) - 1);
}
inline Floats load(const float* p) {
    return _mm512_loadu_ps(p);
}
inline Floats load_part(const float* p, int count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), p);
}
inline Floats keep(Floats v, int count) {
    return _mm512_maskz_mov_ps(first_lanes(count), v);
}
inline void store(float* p, Floats v) {
    _mm512_storeu_ps(p, v);
}
inline void store_part(float* p, Floats v, int count) {
    _mm512_mask_storeu_ps(p, first_lanes(count), v);
}
inline Ints load_ints(const int32_t* p) {
    return (Ints)_mm512_loadu_si512(p);
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline Floats minimum(Floats a, Floats b) {
    return _mm512_min_ps(a, b);
}
inline Floats maximum(Floats a, Floats b) {
    return _mm512_max_ps(a, b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)_mm512_max_epi32((__m512i)a, (__m512i)b);
}
inline Floats absolute(Floats v) {
    return (Floats)_mm512_and_si512((__m512i)v, _mm512_set1_epi32(0x7fffffff));
}
inline Ints round(Floats v) {
    return (Ints)_mm512_cvtps_epi32(v);
}
inline Floats to_floats(Ints v) {
    return _mm512_cvtepi32_ps((__m512i)v);
}
inline int32_t greatest(Ints v) {
    return _mm512_reduce_max_epi32((__m512i)v);
}
inline float sum(Floats v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}
inline float square_root(float x) {
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

inline void store_codes(uint8_t* p, Ints v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(_mm512_cvtsepi32_epi8((__m512i)v), _mm_set1_epi8(-128)));
}
// Packing works in lanes of 128 bits, so that what is adjacent must be brought together.
inline void store_codes(uint8_t* p, Ints a, Ints b, Ints c, Ints d) {
    const __m512i ab = _mm512_packs_epi32((__m512i)a, (__m512i)b), cd = _mm512_packs_epi32((__m512i)c, (__m512i)d);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
    _mm512_storeu_si512(p, _mm512_xor_si512(codes, _mm512_set1_epi8(-128)));
}

inline Weights load_weights(const int8_t* p) {
    return (Ints)_mm512_loadu_si512(p);
}
inline Weights splat_codes(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return splat(four);
}
inline Ints dot(Ints total, Weights code, Weights weight) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)total, (__m512i)code, (__m512i)weight);
}
inline Ints start(const int32_t* weight_sum) {
    return load_ints(weight_sum) * -128;
}
inline void store_sums(int32_t* p, Ints a, Ints b) {
    _mm512_storeu_si512(p, (__m512i)a);
    _mm512_storeu_si512(p + kLanes, (__m512i)b);
}
inline void widen(const uint8_t*, int, int16_t*) {}

}  // namespace
}  // namespace edgefm

#define EDGEFM_LINEAR_UNIT linear_avx512_vnni
#define EDGEFM_ROWS 12
#include "kernels/linear.inl"
