// The loops behind preprocess_kernels.h, over `Vector` of `kLanes` floats and its functions, which the including unit defines:
// zero, splat, load, store, from8, from16, multiply_add, minimum, maximum, sum.
// Everything is in an unnamed namespace, so that no other unit can be linked to this unit's instructions.

namespace edgefm {
namespace {

inline float clip(float x, float top) {
    const float low = x > 0.0f ? x : 0.0f;
    return low < top ? low : top;
}

inline Vector clip(Vector x, Vector top) {
    return minimum(maximum(x, zero()), top);
}

void load8(const uint8_t* source, size_t n, float low, float range, float* out) {
    const Vector minus_low = splat(-low), top = splat(range), one = splat(1.0f);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, clip(multiply_add(from8(source + i), one, minus_low), top));
    for (; i < n; ++i) out[i] = clip(static_cast<float>(source[i]) - low, range);
}

void load16(const uint8_t* source, size_t n, float low, float range, float* out) {
    const Vector minus_low = splat(-low), top = splat(range), one = splat(1.0f);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, clip(multiply_add(from16(source + 2 * i), one, minus_low), top));
    for (; i < n; ++i) {
        uint16_t value;
        __builtin_memcpy(&value, source + 2 * i, sizeof value);
        out[i] = clip(static_cast<float>(value) - low, range);
    }
}

void down(const float* const* rows, const float* weights, size_t taps, size_t n, float* out) {
    for (size_t x = 0; x < n; x += 4 * kLanes) {
        Vector a = zero(), b = zero(), c = zero(), d = zero();
        for (size_t t = 0; t < taps; ++t) {
            const Vector w = splat(weights[t]);
            const float* row = rows[t] + x;
            a = multiply_add(w, load(row), a);
            b = multiply_add(w, load(row + kLanes), b);
            c = multiply_add(w, load(row + 2 * kLanes), c);
            d = multiply_add(w, load(row + 3 * kLanes), d);
        }
        store(out + x, a);
        store(out + x + kLanes, b);
        store(out + x + 2 * kLanes, c);
        store(out + x + 3 * kLanes, d);
    }
}

void across(const float* row, const int32_t* first, const int32_t* taps, const float* weights, size_t stride, size_t count,
            float* out) {
    for (size_t j = 0; j < count; ++j) {
        const float* source = row + first[j];
        const float* w = weights + j * stride;
        Vector total = zero();
        for (int32_t t = 0; t < taps[j]; t += kLanes) total = multiply_add(load(w + t), load(source + t), total);
        out[j] = sum(total);
    }
}

void normalise(const float* row, size_t n, float gain, float offset, float* out) {
    const Vector one = splat(1.0f), g = splat(gain), o = splat(offset);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, multiply_add(clip(load(row + i), one), g, o));
    for (; i < n; ++i) out[i] = clip(row[i], 1.0f) * gain + offset;
}

}  // namespace
}  // namespace edgefm
