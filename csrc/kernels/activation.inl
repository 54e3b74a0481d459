// GELU and SiLU of a vector, over `Floats` and its functions, which the including unit defines. Everything is in an unnamed
// namespace, so that no other unit can be linked to this unit's instructions.
#pragma once

#include "rounding.inl"

namespace edgefm {
namespace {

// x Phi(x) with Phi(u) - 1/2 = u P(u^2): P of degree 12 in s = 2 u^2 / 25 - 1, minimax over u <= 5 (Remez by reweighting),
// beyond which x Phi(x) is x or 0 to 1.5e-6. As relu(x) + u (u P - 1/2) with u = min(|x|, 5), whose error does not grow with x.
// Absolute error below 1e-6 to |x| = 8, then a bit of x.
constexpr float kGelu[] = {0.14136378467082977f,  -0.07029665261507034f,   0.0515214204788208f,    -0.040432948619127274f,
                           0.03142622858285904f,  -0.023336738348007202f,  0.016497667878866196f,  -0.010973209515213966f,
                           0.006165400613099337f, -0.0029156997334212065f, 0.0020018944051116705f, -0.001514142146334052f,
                           0.0004929552087560296f};
// The same of the tanh form: u P(u^2) = tanh(sqrt(2 / pi) (u + 0.044715 u^3)) / 2.
constexpr float kGeluTanh[] = {0.1413785070180893f,   -0.07036592811346054f,   0.051657650619745255f,  -0.040538985282182693f,
                               0.031340695917606354f, -0.023031622171401978f,  0.01607178896665573f,   -0.010436112061142921f,
                               0.005713610909879208f, -0.0030616119038313627f, 0.0026841203216463327f, -0.0020369156263768673f,
                               0.0006248081335797906f};

// `same_bits`: on every instruction set, so in one rounding; else as it is quickest.
template <bool same_bits>
inline Floats step(Floats a, Floats b, Floats c) {
    return same_bits ? fused(a, b, c) : multiply_add(a, b, c);
}

template <bool same_bits>
inline Floats gelu(Floats x, const float* p) {
    const Floats u = minimum(splat_float(5.0f), absolute(x)),
                 s = step<same_bits>(u * u, splat_float(0.08f), splat_float(-1.0f));
    Floats value = splat_float(p[12]);
#pragma GCC unroll 12
    for (int i = 11; i >= 0; --i) value = step<same_bits>(value, s, splat_float(p[i]));
    return step<same_bits>(u, step<same_bits>(u, value, splat_float(-0.5f)), maximum(splat_float(0.0f), x));
}

// x / (1 + exp(-x)), with x of -87 at least, where it is no more than 1e-36. exp as 2^n exp(r), |r| <= ln(2) / 2, by Cody and
// Waite's two-part ln(2) and Taylor's terms to r^7.
template <bool same_bits>
inline Floats silu(Floats x) {
    const Floats top = maximum(splat_float(-87.0f), x), a = maximum(splat_float(-87.0f), splat_float(0.0f) - top);
    const Ints n = round(a * splat_float(1.44269504f));
    const Floats whole = to_floats(n);
    const Floats r = step<same_bits>(whole, splat_float(2.12194440e-4f), step<same_bits>(whole, splat_float(-0.693359375f), a));
    Floats e = splat_float(1.0f / 5040.0f);
    const float terms[] = {1.0f, 1.0f, 1.0f / 2.0f, 1.0f / 6.0f, 1.0f / 24.0f, 1.0f / 120.0f, 1.0f / 720.0f};
#pragma GCC unroll 7
    for (int i = 6; i >= 0; --i) e = step<same_bits>(e, r, splat_float(terms[i]));
    return top / (splat_float(1.0f) + (Floats)((Ints)e + (n << 23)));
}

template <Activation kind, bool same_bits>
inline Floats activate(Floats x) {
    if constexpr (kind == Activation::gelu) return gelu<same_bits>(x, kGelu);
    if constexpr (kind == Activation::gelu_tanh) return gelu<same_bits>(x, kGeluTanh);
    if constexpr (kind == Activation::swiglu) return silu<same_bits>(x);
    return x;
}

}  // namespace
}  // namespace edgefm
