// Preprocessing with AVX2: eight lanes. Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include "preprocess_kernels.h"

namespace edgefm {
namespace {

constexpr size_t kLanes = 8;
typedef __m256 Vector;

inline Vector zero() {
    return _mm256_setzero_ps();
}
inline Vector splat(float x) {
    return _mm256_set1_ps(x);
}
inline Vector load(const float* p) {
    return _mm256_loadu_ps(p);
}
inline void store(float* p, Vector v) {
    _mm256_storeu_ps(p, v);
}
inline Vector from8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Vector from16(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Vector minimum(Vector a, Vector b) {
    return _mm256_min_ps(a, b);
}
inline Vector maximum(Vector a, Vector b) {
    return _mm256_max_ps(a, b);
}
inline float sum(Vector v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
}  // namespace edgefm

#include "preprocess.inl"

namespace edgefm {
const PreprocessKernels preprocess_avx2 = {load8, load16, down, across, normalise};
}
