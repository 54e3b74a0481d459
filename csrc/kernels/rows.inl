// Quantization of rows, and LayerNorm with it in one pass over memory, over `Floats` and `Ints` of `kLanes` and their
// functions, which the including unit defines. Everything else is in an unnamed namespace.
#pragma once

namespace edgefm {
namespace {

inline Ints without_sign(Floats v) {
    return (Ints)v & splat(0x7fffffff);
}

// What a row's codes are worth, from the bits of its largest magnitude: bits without a sign are ordered as their floats are,
// and those of infinity and NaN come last.
struct RowScale {
    float factor, scale;  // code = round(x * factor), x = code * scale
    bool zeros;           // all codes are 0: of a row of zeros, or with NaN, whose scale is NaN too

    explicit RowScale(int32_t largest) {
        float value;
        __builtin_memcpy(&value, &largest, sizeof value);
        const bool finite = largest < 0x7f800000;
        zeros = !finite || value < kSmallest;
        factor = zeros ? 0.0f : 127.0f / value;
        scale = !finite ? __builtin_nanf("") : zeros ? 0.0f : value / 127.0f;
    }
};

// The codes of one row, whose values from i on are value(i, lanes). Writes up to `kLanes` past k, within the row's stride.
template <typename Value>
inline float store_row(const Value& value, int k, int32_t largest, uint8_t* code) {
    const RowScale row(largest);
    if (row.zeros) {
        for (int i = 0; i < k; i += kLanes) store_codes(code + i, splat(0));
        return row.scale;
    }
    const Floats factor = splat_float(row.factor);
    int i = 0;
    for (; i + 4 * kLanes <= k; i += 4 * kLanes) {
        store_codes(code + i, round(value(i, kLanes) * factor), round(value(i + kLanes, kLanes) * factor),
                    round(value(i + 2 * kLanes, kLanes) * factor), round(value(i + 3 * kLanes, kLanes) * factor));
    }
    for (; i + kLanes <= k; i += kLanes) store_codes(code + i, round(value(i, kLanes) * factor));
    if (i < k) store_codes(code + i, round(value(i, k - i) * factor));
    return row.scale;
}

inline Floats load_lanes(const float* p, int lanes) {
    return lanes == kLanes ? load(p) : load_part(p, lanes);
}

inline float quantize_row(const float* x, int k, uint8_t* code) {
    const auto value = [x](int i, int lanes) { return load_lanes(x + i, lanes); };
    Ints largest = splat(0), second = splat(0);
    int i = 0;
    for (; i + 2 * kLanes <= k; i += 2 * kLanes) {
        largest = maximum(largest, without_sign(load(x + i)));
        second = maximum(second, without_sign(load(x + i + kLanes)));
    }
    for (; i + kLanes <= k; i += kLanes) largest = maximum(largest, without_sign(load(x + i)));
    if (i < k) second = maximum(second, without_sign(load_part(x + i, k - i)));
    return store_row(value, k, greatest(maximum(largest, second)), code);
}

constexpr int kParts = 16 / kLanes;

// The sum of the vectors f(i, lanes) over a row, in an order that is the same on every instruction set: 64 sums of values 64
// apart; of what is left, sixteen by sixteen into the first, and the last few into the second sixteen of them.
template <typename Function>
inline float sum_row(int k, const Function& f) {
    Floats sums[4 * kParts];
#pragma GCC unroll 16
    for (int j = 0; j < 4 * kParts; ++j) sums[j] = splat_float(0.0f);
    int i = 0;
    for (; i + 64 <= k; i += 64) {
#pragma GCC unroll 16
        for (int j = 0; j < 4 * kParts; ++j) sums[j] += f(i + j * kLanes, kLanes);
    }
    for (; i + 16 <= k; i += 16) {
#pragma GCC unroll 4
        for (int j = 0; j < kParts; ++j) sums[j] += f(i + j * kLanes, kLanes);
    }
#pragma GCC unroll 4
    for (int j = 0; j < kParts; ++j) {
        const int left = k - i - j * kLanes;
        if (left > 0) sums[kParts + j] += f(i + j * kLanes, left < kLanes ? left : kLanes);
    }
#pragma GCC unroll 4
    for (int j = 0; j < kParts; ++j) sums[j] = (sums[j] + sums[kParts + j]) + (sums[2 * kParts + j] + sums[3 * kParts + j]);
    if (kParts == 4) sums[0] = (sums[0] + sums[kParts / 2]) + (sums[1] + sums[kParts - 1]);
    if (kParts == 2) sums[0] += sums[kParts - 1];
    return sum(sums[0]);
}

// Ba, Kiros, Hinton 2016: y = (x - mean) / sqrt(variance + eps) * gamma + beta. y is computed once more for its codes: cheaper
// than to keep it.
inline void layernorm_row(const LayerNorm& call, int row) {
    const int k = call.k;
    const float* x = call.x + row * call.x_stride;
    float* y = call.y == nullptr ? nullptr : call.y + row * call.y_stride;
    const float mean = sum_row(k, [x](int i, int lanes) { return load_lanes(x + i, lanes); }) / static_cast<float>(k);
    const Floats centre = splat_float(mean);
    const float squares = sum_row(k, [x, centre](int i, int lanes) {
        const Floats v = lanes == kLanes ? load(x + i) - centre : keep(load_part(x + i, lanes) - centre, lanes);
        return v * v;
    });
    // Squares that add up to infinity would leave nothing but beta: they make NaN.
    const float infinite = squares * 0.0f;
    const Floats rise = splat_float(1.0f / square_root(squares / static_cast<float>(k) + call.eps) + infinite);
    const auto value = [x, &call, centre, rise](int i, int lanes) {
        Floats v = (load_lanes(x + i, lanes) - centre) * rise;
        const Floats beta = call.beta == nullptr ? splat_float(0.0f) : load_lanes(call.beta + i, lanes);
        if (call.gamma != nullptr) return fused(v, load_lanes(call.gamma + i, lanes), beta);
        return v + beta;
    };
    if (call.codes.code != nullptr) {
        Ints largest = splat(0);
        int i = 0;
        for (; i + kLanes <= k; i += kLanes) largest = maximum(largest, without_sign(value(i, kLanes)));
        if (i < k) largest = maximum(largest, without_sign(keep(value(i, k - i), k - i)));
        call.codes.scale[row] = store_row(value, k, greatest(largest), call.codes.code + row * call.codes.stride);
    }
    if (y != nullptr) {
        int i = 0;
        for (; i + kLanes <= k; i += kLanes) store(y + i, value(i, kLanes));
        if (i < k) store_part(y + i, value(i, k - i), k - i);
    }
}

}  // namespace

namespace EDGEFM_LINEAR_UNIT {

void quantize_rows(const float* x, int64_t x_stride, int m, int k, Int8Rows out) {
    for (int row = 0; row < m; ++row) out.scale[row] = quantize_row(x + row * x_stride, k, out.code + row * out.stride);
}

void layernorm(const LayerNorm& call) {
    for (int row = 0; row < call.m; ++row) layernorm_row(call, row);
}

}  // namespace EDGEFM_LINEAR_UNIT
}  // namespace edgefm
