// Preprocessing with AVX-512 (F, BW, DQ, VL): sixteen lanes. Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include "preprocess_kernels.h"

namespace edgefm {
namespace {

constexpr size_t kLanes = 16;
typedef __m512 Vector;

inline Vector zero() {
    return _mm512_setzero_ps();
}
inline Vector splat(float x) {
    return _mm512_set1_ps(x);
}
inline Vector load(const float* p) {
    return _mm512_loadu_ps(p);
}
inline void store(float* p, Vector v) {
    _mm512_storeu_ps(p, v);
}
inline Vector from8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Vector from16(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
inline Vector minimum(Vector a, Vector b) {
    return _mm512_min_ps(a, b);
}
inline Vector maximum(Vector a, Vector b) {
    return _mm512_max_ps(a, b);
}
inline float sum(Vector v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
}  // namespace edgefm

#include "preprocess.inl"

namespace edgefm {
const PreprocessKernels preprocess_avx512 = {load8, load16, down, across, normalise};
}
