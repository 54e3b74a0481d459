// a b + c in one rounding without FMA, for the two units of SSE4.1: what makes their bits those of the other sets, at some
// seven times the cost of two roundings.
//
// In double the product of two floats is exact, and the sum's rounding is seen only where it falls in the middle between two
// floats, or where the float has fewer bits: those, one in some millions, are done one by one. 2^-126 itself is among them, for
// a sum in the middle between it and the number below has been rounded to it; and so are sums of zero.

#include "kernels/fused.inl"

namespace edgefm {
namespace {

__attribute__((noinline, cold)) Floats fused_one_by_one(Floats a, Floats b, Floats c) {
    Floats y;
    for (int i = 0; i < 4; ++i) y[i] = fused_float(a[i], b[i], c[i]);
    return y;
}

inline Floats fused(Floats a, Floats b, Floats c) {
    const auto low = [](Floats v) { return _mm_cvtps_pd((__m128)v); };
    const auto high = [](Floats v) { return _mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v)); };
    const __m128d s0 = low(a) * low(b) + low(c), s1 = high(a) * high(b) + high(c);
    const Floats sum = _mm_movelh_ps(_mm_cvtpd_ps(s0), _mm_cvtpd_ps(s1));
    const Ints rest = (Ints)_mm_shuffle_ps(_mm_castpd_ps(s0), _mm_castpd_ps(s1), 0x88);  // the last 32 bits
    const Ints middle = (rest & 0x1fffffff) == 0x10000000;                               // of the 29 that a float has not
    const Ints small = ((Ints)sum & 0x7fffffff) <= 0x00800000;                           // 2^-126 and below
    if (_mm_movemask_ps((__m128)(middle | small)) != 0) return fused_one_by_one(a, b, c);
    return sum;
}

}  // namespace
}  // namespace edgefm
