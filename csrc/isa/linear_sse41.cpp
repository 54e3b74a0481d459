// Linear layers with SSE4.1, what the oldest processors in clinics have; six rows by four columns in registers. As AVX2's,
// codes and weights are widened to 16 bits for pmaddwd, so that no sum saturates.

#include <smmintrin.h>

#include "kernels/linear.h"

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef Ints Weights;
typedef int16_t Code;
constexpr int kLanes = 4, kPair = 4;
constexpr bool kRoundsOnce = false;

}  // namespace
}  // namespace edgefm

#include "fused_sse41.inl"

namespace edgefm {
namespace {

inline Ints splat(int32_t x) {
    return (Ints)_mm_set1_epi32(x);
}
inline Floats splat_float(float x) {
    return _mm_set1_ps(x);
}
inline Floats load(const float* p) {
    return _mm_loadu_ps(p);
}
inline Floats load_part(const float* p, int count) {
    return Floats{p[0], count > 1 ? p[1] : 0.0f, count > 2 ? p[2] : 0.0f, 0.0f};
}
inline Floats keep(Floats v, int count) {
    return _mm_and_ps(v, _mm_castsi128_ps(_mm_cmpgt_epi32(_mm_set1_epi32(count), _mm_setr_epi32(0, 1, 2, 3))));
}
inline void store(float* p, Floats v) {
    _mm_storeu_ps(p, v);
}
inline void store_part(float* p, Floats v, int count) {
    for (int i = 0; i < count; ++i) p[i] = v[i];
}
inline Ints load_ints(const int32_t* p) {
    return (Ints)_mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline Floats minimum(Floats a, Floats b) {
    return _mm_min_ps(a, b);
}
inline Floats maximum(Floats a, Floats b) {
    return _mm_max_ps(a, b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)_mm_max_epi32((__m128i)a, (__m128i)b);
}
inline Floats absolute(Floats v) {
    return (Floats)((Ints)v & splat(0x7fffffff));
}
inline Ints round(Floats v) {
    return (Ints)_mm_cvtps_epi32(v);
}
inline Floats to_floats(Ints v) {
    return _mm_cvtepi32_ps((__m128i)v);
}
inline int32_t greatest(Ints v) {
    const __m128i two = _mm_max_epi32((__m128i)v, _mm_shuffle_epi32((__m128i)v, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
inline float sum(Floats v) {
    const __m128 two = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}
inline float square_root(float x) {
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

inline void store_codes(uint8_t* p, Ints a, Ints b, Ints c, Ints d) {
    const __m128i ab = _mm_packs_epi32((__m128i)a, (__m128i)b), cd = _mm_packs_epi32((__m128i)c, (__m128i)d);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(ab, cd));
}
inline void store_codes(uint8_t* p, Ints v) {
    const __m128i words = _mm_packs_epi32((__m128i)v, (__m128i)v);
    const int32_t four = _mm_cvtsi128_si32(_mm_packs_epi16(words, words));
    __builtin_memcpy(p, &four, sizeof four);
}

inline Weights load_weights(const int8_t* p) {
    return (Ints)_mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Weights splat_codes(const int16_t* p) {
    const __m128i four = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return (Ints)_mm_unpacklo_epi64(four, four);
}
inline Ints dot(Ints total, Weights code, Weights weight) {
    return total + (Ints)_mm_madd_epi16((__m128i)code, (__m128i)weight);
}
inline Ints start(const int32_t*) {
    return splat(0);
}
inline void store_sums(int32_t* p, Ints a, Ints b) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_hadd_epi32((__m128i)a, (__m128i)b));
}
inline void widen(const uint8_t* code, int k, int16_t* out) {
    int i = 0;
    for (; i + 8 <= k; i += 8) {
        const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(code + i));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_cvtepi8_epi16(codes));
    }
    for (; i < k; ++i) out[i] = static_cast<int8_t>(code[i]);
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_LINEAR_UNIT linear_sse41
#define EDGEFM_ROWS 6
#include "kernels/linear.inl"
