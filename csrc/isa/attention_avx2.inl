// Eight lanes, for the two units of attention that have AVX2 and FMA. Not their dot products.

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
constexpr int kLanes = 8, kVectors = 2;

inline Ints splat(int32_t x) {
    return (Ints)_mm256_set1_epi32(x);
}
inline Floats splat_float(float x) {
    return _mm256_set1_ps(x);
}
inline Floats load_part(const float* p, int) {  // widths are multiples of eight
    return _mm256_loadu_ps(p);
}
inline void store_part(float* p, Floats v, int) {
    _mm256_storeu_ps(p, v);
}
inline Floats multiply_add(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
}
inline Floats maximum(Floats a, Floats b) {
    return _mm256_max_ps(a, b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)_mm256_max_epi32((__m256i)a, (__m256i)b);
}
inline Ints round(Floats v) {
    return (Ints)_mm256_cvtps_epi32(v);
}
inline int32_t greatest(Ints v) {
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

}  // namespace
}  // namespace edgefm
