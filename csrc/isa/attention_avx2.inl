// Eight lanes, for the two units of attention that have AVX2 and FMA. Not their dot products.

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
constexpr int kLanes = 8, kVectors = 2;
constexpr bool kRoundsOnce = true;

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
inline Floats fused(Floats a, Floats b, Floats c) {
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

}  // namespace
}  // namespace edgefm
