// exp((s - m) scale) as a fraction times a power of two, for s <= m. With x = (s - m) scale log2(e) = n + f, f in [-1/2, 1/2]:
// the power is 2^n, the fraction a polynomial for 2^f, minimax in relative error with 2^0 = 1.
#pragma once

namespace edgefm {
namespace {

struct Power {
    Floats fraction, power;
};

// Where x is below -126 it counts as -126. Codes: the fraction is 255 times larger, its error 2.8e-6, NaN counts as -126.
// Otherwise the error is 1.1e-7, NaN gives NaN. below = s - m; least = -126 / rate; rate = scale log2(e).
template <bool Codes>
inline Power exponential(Floats below, Floats least, Floats rate) {
    const Floats magic = splat_float(12582912.0f + 127.0f);  // 1.5 * 2^23: the last bits of magic + x are n + 127
    const Floats d = Codes ? maximum(below, least) : maximum(least, below);  // of NaN and a number, the second
    const Floats shifted = multiply_add(d, rate, magic);
    const Floats f = multiply_add(d, rate, magic - shifted);
    Floats e;
    if constexpr (Codes) {
        e = multiply_add(f, splat_float(255.0f * 0x1.3a02ccp-7f), splat_float(255.0f * 0x1.c9fc46p-5f));
    } else {
        e = multiply_add(f, splat_float(0x1.5bba14p-10f), splat_float(0x1.3cea88p-7f));
        e = multiply_add(f, e, splat_float(0x1.c6b752p-5f));
    }
    e = multiply_add(f, e, splat_float(Codes ? 255.0f * 0x1.ec0378p-3f : 0x1.ebf9bcp-3f));
    e = multiply_add(f, e, splat_float(Codes ? 255.0f * 0x1.62e12cp-1f : 0x1.62e42ap-1f));
    e = multiply_add(f, e, splat_float(Codes ? 255.0f : 1.0f));
    return {e, reinterpret_cast<Floats>(reinterpret_cast<Ints>(shifted) << 23)};
}

}  // namespace
}  // namespace edgefm
