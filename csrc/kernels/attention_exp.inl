// 2^x for x up to 8, by x = n + f with f in [-1/2, 1/2] and a polynomial for 2^f: minimax in relative error with 2^0 = 1,
// 2.8e-6 for Coarse, 1.1e-7 otherwise. Below -126 it is 2^-126. NaN gives NaN, but for Coarse 2^-126.

namespace edgefm {
namespace {

template <bool Coarse>
inline Floats power_of_fraction(Floats f) {
    const Floats one = splat_float(1.0f);
    if constexpr (Coarse) {
        Floats e = multiply_add(f, splat_float(0x1.3a02ccp-7f), splat_float(0x1.c9fc46p-5f));
        e = multiply_add(f, e, splat_float(0x1.ec0378p-3f));
        e = multiply_add(f, e, splat_float(0x1.62e12cp-1f));
        return multiply_add(f, e, one);
    } else {
        Floats e = multiply_add(f, splat_float(0x1.5bba14p-10f), splat_float(0x1.3cea88p-7f));
        e = multiply_add(f, e, splat_float(0x1.c6b752p-5f));
        e = multiply_add(f, e, splat_float(0x1.ebf9bcp-3f));
        e = multiply_add(f, e, splat_float(0x1.62e42ap-1f));
        return multiply_add(f, e, one);
    }
}

template <bool Coarse>
inline Floats power_of_two(Floats x) {
    const Floats least = splat_float(-126.0f);
    x = Coarse ? maximum(x, least) : maximum(least, x);      // of NaN and a number, the second
    const Floats magic = splat_float(12582912.0f + 127.0f);  // 1.5 * 2^23: its last bits are n + 127
    const Floats shifted = x + magic;
    const Ints exponent = reinterpret_cast<Ints>(shifted) << 23;
    return power_of_fraction<Coarse>(x - (shifted - magic)) * reinterpret_cast<Floats>(exponent);
}

}  // namespace
}  // namespace edgefm
