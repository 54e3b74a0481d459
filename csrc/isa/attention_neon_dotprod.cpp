// Attention with NEON and its dot products (Armv8.2): four lanes of four codes, s8 times s8, so P's codes are taken 128 lower.

#include <arm_neon.h>

#include <type_traits>

#include "kernels/attention.h"

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef int8_t Code;
constexpr int kLanes = 4, kCodes = 4, kVectors = 4;
constexpr bool kRoundsOnce = true;
constexpr int kQueryOffset = 0, kProbabilityOffset = -128, kOnes = 0x01010101;

inline Ints dot(Ints sum, Ints x, Ints y) {
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)y);
}
inline Ints splat(int32_t x) {
    return (Ints)vdupq_n_s32(x);
}
inline Floats splat_float(float x) {
    return (Floats)vdupq_n_f32(x);
}
inline Floats load_part(const float* p, int) {  // widths are multiples of eight
    return (Floats)vld1q_f32(p);
}
inline void store_part(float* p, Floats v, int) {
    vst1q_f32(p, (float32x4_t)v);
}
inline void store_codes(Code* p, Ints v) {
    const int16x4_t words = vmovn_s32((int32x4_t)v);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    __builtin_memcpy(p, &bytes, 4);
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
// Of a number and NaN the number, as in SSE if NaN comes first: exp wants it (attention_exp.inl).
inline Floats maximum(Floats a, Floats b) {
    return a > b ? a : b;
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)vmaxq_s32((int32x4_t)a, (int32x4_t)b);
}
inline Ints round(Floats v) {
    return (Ints)vcvtnq_s32_f32((float32x4_t)v);
}

}  // namespace
}  // namespace edgefm

#define EDGEFM_ATTENTION_UNIT attention_neon_dotprod
#include "kernels/attention_rows.inl"
