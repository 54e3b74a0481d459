// Eight lanes, for the two units of linear layers that have AVX2 and FMA. Not their dot products.

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
constexpr int kLanes = 8;
constexpr bool kRoundsOnce = true;

inline Ints splat(int32_t x) {
    return (Ints)_mm256_set1_epi32(x);
}
inline Floats splat_float(float x) {
    return _mm256_set1_ps(x);
}
inline __m256i first_lanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Floats load(const float* p) {
    return _mm256_loadu_ps(p);
}
inline Floats load_part(const float* p, int count) {
    return _mm256_maskload_ps(p, first_lanes(count));
}
inline Floats keep(Floats v, int count) {
    return _mm256_and_ps(v, _mm256_castsi256_ps(first_lanes(count)));
}
inline void store(float* p, Floats v) {
    _mm256_storeu_ps(p, v);
}
inline void store_part(float* p, Floats v, int count) {
    _mm256_maskstore_ps(p, first_lanes(count), v);
}
inline Ints load_ints(const int32_t* p) {
    return (Ints)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
}
inline Floats minimum(Floats a, Floats b) {
    return _mm256_min_ps(a, b);
}
inline Floats maximum(Floats a, Floats b) {
    return _mm256_max_ps(a, b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)_mm256_max_epi32((__m256i)a, (__m256i)b);
}
inline Floats absolute(Floats v) {
    return (Floats)((Ints)v & splat(0x7fffffff));
}
inline Ints round(Floats v) {
    return (Ints)_mm256_cvtps_epi32(v);
}
inline Floats to_floats(Ints v) {
    return _mm256_cvtepi32_ps((__m256i)v);
}
inline int32_t greatest(Ints v) {
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
inline float sum(Floats v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}
inline float square_root(float x) {
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

// Packing works in lanes of 128 bits, so that what is adjacent must be brought together.
inline void store_codes(uint8_t* p, Ints a, Ints b, Ints c, Ints d) {
    const __m256i ab = _mm256_packs_epi32((__m256i)a, (__m256i)b), cd = _mm256_packs_epi32((__m256i)c, (__m256i)d);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i codes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_xor_si256(codes, _mm256_set1_epi8(kFlip)));
}
inline void store_codes(uint8_t* p, Ints v) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_xor_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(kFlip)));
}

}  // namespace
}  // namespace edgefm
