// a b + c, over `Floats`, `fused` (one rounding) and `kRoundsOnce`, whether the processor has that as one instruction; the
// including unit defines them. Everything is in an unnamed namespace.
#pragma once

namespace edgefm {
namespace {

// As it is quickest.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
    return kRoundsOnce ? fused(a, b, c) : a * b + c;
}

}  // namespace
}  // namespace edgefm
