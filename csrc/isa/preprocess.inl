// The loops behind preprocess_kernels.h, over `Vector` of `kLanes` floats and its functions, which the including unit defines:
// zero, splat, load, store, from8, from16, minimum, maximum, sum. Every sum has one order, and products are rounded before they
// are added: the same bits on every instruction set. Loads bound these loops, so that is as fast as fused.
// Everything is in an unnamed namespace, so that no other unit can be linked to this unit's instructions.

namespace edgefm {
namespace {

constexpr size_t kParts = 16 / kLanes;  // of sixteen sums

inline float clip(float x, float top) {
    const float low = x > 0.0f ? x : 0.0f;
    return low < top ? low : top;
}

inline Vector clip(Vector x, Vector top) {
    return minimum(maximum(x, zero()), top);
}

void load8(const uint8_t* source, size_t n, float low, float range, float* out) {
    const Vector least = splat(low), top = splat(range);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, clip(from8(source + i) - least, top));
    for (; i < n; ++i) out[i] = clip(static_cast<float>(source[i]) - low, range);
}

void load16(const uint8_t* source, size_t n, float low, float range, float* out) {
    const Vector least = splat(low), top = splat(range);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, clip(from16(source + 2 * i) - least, top));
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
            a = a + w * load(row);
            b = b + w * load(row + kLanes);
            c = c + w * load(row + 2 * kLanes);
            d = d + w * load(row + 3 * kLanes);
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
        Vector total[kParts];
        for (size_t i = 0; i < kParts; ++i) total[i] = zero();
        for (int32_t t = 0; t < taps[j]; t += kParts * kLanes) {
#pragma GCC unroll 4
            for (int32_t i = 0; i < static_cast<int32_t>(kParts); ++i) {
                const int32_t at = t + i * static_cast<int32_t>(kLanes);
                if (at < taps[j]) total[i] = total[i] + load(w + at) * load(source + at);
            }
        }
        for (size_t n = kParts / 2; n > 0; n /= 2) {
            for (size_t i = 0; i < n; ++i) total[i] = total[i] + total[n + i];
        }
        out[j] = sum(total[0]);
    }
}

void normalise(const float* row, size_t n, float gain, float offset, float* out) {
    const Vector one = splat(1.0f), g = splat(gain), o = splat(offset);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + i, clip(load(row + i), one) * g + o);
    for (; i < n; ++i) out[i] = clip(row[i], 1.0f) * gain + offset;
}

}  // namespace
}  // namespace edgefm
