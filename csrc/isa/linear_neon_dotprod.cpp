// Linear layers with NEON and its dot product (sdot, ARMv8.2): four lanes of four codes, s8 times s8; six rows by eight columns
// in registers. Run it only where the system says "asimddp".

#include <arm_neon.h>

#include "kernels/linear.h"

namespace edgefm {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef int8x16_t Weights;
typedef uint8_t Code;
constexpr int kLanes = 4, kPair = 8;
constexpr bool kRoundsOnce = true;

inline Ints splat(int32_t x) {
    return (Ints)vdupq_n_s32(x);
}
inline Floats splat_float(float x) {
    return (Floats)vdupq_n_f32(x);
}
inline Floats load(const float* p) {
    return (Floats)vld1q_f32(p);
}
inline Floats load_part(const float* p, int count) {
    return Floats{p[0], count > 1 ? p[1] : 0.0f, count > 2 ? p[2] : 0.0f, 0.0f};
}
inline Floats keep(Floats v, int count) {
    return (Floats)((Ints)v & (splat(count) > Ints{0, 1, 2, 3}));
}
inline void store(float* p, Floats v) {
    vst1q_f32(p, (float32x4_t)v);
}
inline void store_part(float* p, Floats v, int count) {
    for (int i = 0; i < count; ++i) p[i] = v[i];
}
inline Ints load_ints(const int32_t* p) {
    return (Ints)vld1q_s32(p);
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Floats minimum(Floats a, Floats b) {
    return (Floats)vminq_f32((float32x4_t)a, (float32x4_t)b);
}
inline Floats maximum(Floats a, Floats b) {
    return (Floats)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
}
inline Ints maximum(Ints a, Ints b) {
    return (Ints)vmaxq_s32((int32x4_t)a, (int32x4_t)b);
}
inline Floats absolute(Floats v) {
    return (Floats)vabsq_f32((float32x4_t)v);
}
inline Ints round(Floats v) {
    return (Ints)vcvtnq_s32_f32((float32x4_t)v);
}
inline Floats to_floats(Ints v) {
    return (Floats)vcvtq_f32_s32((int32x4_t)v);
}
inline int32_t greatest(Ints v) {
    return vmaxvq_s32((int32x4_t)v);
}
inline float sum(Floats v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
}
inline void prefetch(const void* p) {
    __builtin_prefetch(p, 0, 2);
}
inline float square_root(float x) {
    return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0);
}

inline void store_codes(uint8_t* p, Ints a, Ints b, Ints c, Ints d) {
    const int16x8_t ab = vcombine_s16(vqmovn_s32((int32x4_t)a), vqmovn_s32((int32x4_t)b));
    const int16x8_t cd = vcombine_s16(vqmovn_s32((int32x4_t)c), vqmovn_s32((int32x4_t)d));
    vst1q_s8(reinterpret_cast<int8_t*>(p), vcombine_s8(vqmovn_s16(ab), vqmovn_s16(cd)));
}
inline void store_codes(uint8_t* p, Ints v) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(v[i]);
}

inline Weights load_weights(const int8_t* p) {
    return vld1q_s8(p);
}
inline Weights splat_codes(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
inline Ints dot(Ints total, Weights code, Weights weight) {
    return (Ints)vdotq_s32((int32x4_t)total, code, weight);
}
inline Ints start(const int32_t*) {
    return splat(0);
}
inline void store_sums(int32_t* p, Ints a, Ints b) {
    vst1q_s32(p, (int32x4_t)a);
    vst1q_s32(p + kLanes, (int32x4_t)b);
}
inline void widen(const uint8_t*, int, int16_t*) {}

}  // namespace
}  // namespace edgefm

#define EDGEFM_LINEAR_UNIT linear_neon_dotprod
#define EDGEFM_ROWS 6
#include "kernels/linear.inl"
