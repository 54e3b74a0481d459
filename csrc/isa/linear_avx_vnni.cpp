// Linear layers with AVX2, FMA and AVX-VNNI: eight lanes of four codes, u8 times s8; six rows by 16 columns in registers.
// Run it only where CPUID and XGETBV allow it.

#include <immintrin.h>

#include "kernels/linear.h"

namespace edgefm {
namespace {

typedef uint8_t Code;
constexpr int kPair = 16;
constexpr char kFlip = -128;  // u8 = s8 + 128

}  // namespace
}  // namespace edgefm

#include "linear_ymm.inl"

namespace edgefm {
namespace {

typedef Ints Weights;

inline Weights load_weights(const int8_t* p) {
    return (Ints)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Weights splat_codes(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return splat(four);
}
inline Ints dot(Ints total, Weights code, Weights weight) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)total, (__m256i)code, (__m256i)weight);
}
inline Ints start(const int32_t* weight_sum) {
    return load_ints(weight_sum) * -128;
}
inline void store_sums(int32_t* p, Ints a, Ints b) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + kLanes), (__m256i)b);
}
inline void widen(const uint8_t*, int, int16_t*) {}

}  // namespace
}  // namespace edgefm

#define EDGEFM_LINEAR_UNIT linear_avx_vnni
#define EDGEFM_ROWS 6
#include "kernels/linear.inl"
