// a b + c of floats in one rounding, where there is no instruction for it. Not the C library's fma, which is not right
// everywhere.
#pragma once

#include <cstdint>

namespace edgefm {
namespace {

// In double the product is exact. The sum is rounded to odd: an inexact one whose last bit is 0 goes to its neighbour on the
// other side of the exact sum, whose last bit is 1, and so never lies in the middle between two floats (Boldo, Melquiond 2008).
inline float fused_by_double(float a, float b, float c) {
    const double p = double{a} * b, s = p + c, t = s - p;
    const double rest = (p - (s - t)) + (c - t);  // what the sum lost: Knuth's two-sum
    int64_t bits;
    __builtin_memcpy(&bits, &s, sizeof bits);
    if ((rest > 0.0 || rest < 0.0) && bits % 2 == 0) bits += (rest > 0.0) == (s > 0.0) ? 1 : -1;
    double odd;
    __builtin_memcpy(&odd, &bits, sizeof odd);
    return static_cast<float>(odd);
}

inline float fused_float(float a, float b, float c) {
#if defined(__FP_FAST_FMAF) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return fused_by_double(a, b, c);
#endif
}

}  // namespace
}  // namespace edgefm
