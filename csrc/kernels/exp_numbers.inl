// The numbers behind the codes of probabilities, for the vectors (attention_exp.inl) and the plain loops. Everything is in an
// unnamed namespace.
#pragma once

namespace edgefm {
namespace {

constexpr float kMagic = 12582912.0f + 127.0f;  // so that the last bits are the exponent of 2^n
// 2^f to 1.0e-4 for |f| <= 1/2, a fortieth of a code: 1 + f (kExp1 + f (kExp2 + f kExp3)).
constexpr float kExp1 = 0x1.62f5fap-1f, kExp2 = 0x1.f00c4ep-3f, kExp3 = 0x1.c2a218p-5f;
// The most m rate that is taken whole: kMagic - m rate has to leave integers in its last bits.
constexpr float kLargestTop = 256.0f;

// 2^f for |f| <= 1/2, to 3e-6: of its own, for the C library's may depend on the processor.
inline float power_of_two(float f) {
    const float t = f * 0.693147181f, t2 = t * t;
    return ((1.0f + t) + t2 * (0.5f + t * (1.0f / 6.0f))) + t2 * t2 * ((1.0f / 24.0f) + t * (1.0f / 120.0f));
}

}  // namespace
}  // namespace edgefm
