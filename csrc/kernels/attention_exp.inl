// exp of scores below their maximum. 2^x is 2^n 2^f with x = n + f, f in [-1/2, 1/2], and a polynomial for 2^f, minimax in
// relative error with 2^0 = 1. n comes from adding 1.5 * 2^23, which leaves an integer in the last bits of the sum.
#pragma once

#include "attention_numbers.inl"
#include "exp_numbers.inl"

namespace edgefm {
namespace {

constexpr int32_t kCodeBits = 0x4b000000;  // of 2^23: added to a number below it, leaves that as an integer in the last bits

// 255 exp(scale (s - m)) as a code. x = s rate with rate = scale log2(e) needs no difference s - m: its integer part is taken
// from the sum, and the rest of m rate is in the coefficients.
struct CodeRates {
    Floats least, rate, shift, c0, c1, c2, c3;

    CodeRates(float most, float rate_) {
        const float top = most * rate_, whole = __builtin_rintf(top), scale = 255.0f * power_of_two(whole - top);
        least = splat_float((top - 126.0f) / rate_);
        rate = splat_float(rate_);
        shift = splat_float(kMagic - whole);
        c0 = splat_float(scale);
        c1 = splat_float(scale * kExp1);
        c2 = splat_float(scale * kExp2);
        c3 = splat_float(scale * kExp3);
    }
};

// The code, plus kCodeBits. Scores below `least` give 0, and so does NaN.
EDGEFM_INLINE Ints code_of(Floats score, const CodeRates& r) {
    const Floats s = maximum(score, r.least);  // of NaN and a number, the second
    const Floats shifted = fused(s, r.rate, r.shift);
    const Floats f = fused(s, r.rate, r.shift - shifted);
    Floats e = fused(f, r.c3, r.c2);
    e = fused(f, e, r.c1);
    e = fused(f, e, r.c0);
    const Floats power = reinterpret_cast<Floats>(reinterpret_cast<Ints>(shifted) << 23);
    // The product with a power of two is exact: rounded once or twice is the same.
    return reinterpret_cast<Ints>(multiply_add(e, power, splat_float(8388608.0f)));
}

// exp(scale below) with an error of 1.1e-7, for below <= 0; 2^-126 where it would be less, NaN for NaN.
EDGEFM_INLINE Floats exponential(Floats below, Floats least, Floats rate) {
    const Floats magic = splat_float(kMagic), d = maximum(least, below);
    const Floats shifted = multiply_add(d, rate, magic);
    const Floats f = multiply_add(d, rate, magic - shifted);
    Floats e = multiply_add(f, splat_float(0x1.5bba14p-10f), splat_float(0x1.3cea88p-7f));
    e = multiply_add(f, e, splat_float(0x1.c6b752p-5f));
    e = multiply_add(f, e, splat_float(0x1.ebf9bcp-3f));
    e = multiply_add(f, e, splat_float(0x1.62e42ap-1f));
    e = multiply_add(f, e, splat_float(1.0f));
    return e * reinterpret_cast<Floats>(reinterpret_cast<Ints>(shifted) << 23);
}

}  // namespace
}  // namespace edgefm
