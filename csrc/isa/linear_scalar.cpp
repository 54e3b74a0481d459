// Linear layers, LayerNorm and quantization in plain loops: what the other instruction sets are held to, bit for bit but for
// float layers, and what runs where there is none of them.

#include <cmath>
#include <cstring>

#include "kernels/fused.inl"
#include "kernels/linear.h"

namespace edgefm {
namespace {

// Vectors of one lane, for the activations.
constexpr bool kRoundsOnce = true;
typedef float Floats __attribute__((vector_size(4)));
typedef int32_t Ints __attribute__((vector_size(4)));

inline Floats splat_float(float x) {
    return Floats{x};
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return Floats{fused_float(a[0], b[0], c[0])};
}
inline Floats minimum(Floats a, Floats b) {
    return a[0] < b[0] ? a : b;
}
inline Floats maximum(Floats a, Floats b) {
    return a[0] > b[0] ? a : b;
}
inline Floats absolute(Floats v) {
    return Floats{std::fabs(v[0])};
}
inline Ints round(Floats v) {
    return Ints{static_cast<int32_t>(std::lrint(v[0]))};
}
inline Floats to_floats(Ints v) {
    return Floats{static_cast<float>(v[0])};
}

}  // namespace
}  // namespace edgefm

#include "kernels/activation.inl"

namespace edgefm {
namespace {

// code = round(x * 127 / max|x|), ties to even; x = code * scale. A row with NaN or infinity: codes of 0 and a scale of NaN,
// so that every sum over the row is NaN.
float quantize(const float* x, int k, uint8_t* code) {
    float largest = 0.0f;
    bool finite = true;
    for (int i = 0; i < k; ++i) {
        finite = finite && std::isfinite(x[i]);
        largest = std::fmax(largest, std::fabs(x[i]));
    }
    const bool zeros = !finite || largest < kSmallest;
    const float factor = zeros ? 0.0f : 127.0f / largest;
    for (int i = 0; i < k; ++i) code[i] = zeros ? 0 : static_cast<uint8_t>(std::lrintf(x[i] * factor));
    for (int i = k; i < round_up(k, kGroup); ++i) code[i] = 0;
    return !finite ? NAN : zeros ? 0.0f : largest / 127.0f;
}

// Column n of an int8 product: sum over k of code[k] * weight[n][k].
int32_t product(const uint8_t* code, const Int8Weights& w, int n) {
    const int groups = static_cast<int>(round_up(w.k, kGroup)) / kGroup;
    const int8_t* block = w.weight + int64_t{n / kColumns} * groups * kColumns * kGroup + n % kColumns * kGroup;
    int32_t total = 0;
    for (int g = 0; g < groups; ++g, block += kColumns * kGroup, code += kGroup) {
        for (int i = 0; i < kGroup; ++i) total += static_cast<int8_t>(code[i]) * block[i];
    }
    return total;
}

float activated(Activation activation, float x) {
    switch (activation) {
        case Activation::gelu:
            return activate<Activation::gelu, true>(Floats{x})[0];
        case Activation::gelu_tanh:
            return activate<Activation::gelu_tanh, true>(Floats{x})[0];
        case Activation::swiglu:
            return activate<Activation::swiglu, true>(Floats{x})[0];
        default:
            return x;
    }
}

// Row `row` of y from its n values before the activation, `before(n)`.
template <typename Before>
void finish(const Epilogue& after, int row, int n, Before before, float* y) {
    const bool gated = after.activation == Activation::swiglu;
    const float* residual = after.residual == nullptr ? nullptr : after.residual + row * after.residual_stride;
    for (int c = 0; c < (gated ? n / 2 : n); ++c) {
        const int gate = gated ? c / kColumns * 2 * kColumns + c % kColumns : c;
        float value = activated(after.activation, before(gate));
        if (gated) value *= before(gate + kColumns);
        if (after.gamma != nullptr) value *= after.gamma[c];
        if (residual != nullptr) value += residual[c];
        y[c] = value;
    }
}

// The sum of value(i), i < k, in the others' order: 64 sums of values 64 apart; of what is left, sixteen by sixteen into the
// first, and the last few into the second sixteen of them; all put together half by half.
template <typename Value>
float sum_of(int k, Value value) {
    float sums[64] = {};
    const int whole = k / 64 * 64, sixteens = k / 16 * 16;
    for (int i = 0; i < k; ++i) sums[i < whole ? i % 64 : i < sixteens ? i % 16 : 16 + i % 16] += value(i);
    for (int i = 0; i < 16; ++i) sums[i] = (sums[i] + sums[16 + i]) + (sums[32 + i] + sums[48 + i]);
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) sums[i] += sums[half + i];
    }
    return sums[0];
}

const Int8Adapter* adapter_of(const LinearInt8& call, int row) {
    if (call.adapters == nullptr) return nullptr;
    if (call.adapter_of == nullptr) return call.adapters;
    return call.adapter_of[row] < 0 ? nullptr : call.adapters + call.adapter_of[row];
}

}  // namespace

namespace linear_scalar {

void quantize_rows(const float* x, int64_t x_stride, int m, int k, Int8Rows out) {
    for (int row = 0; row < m; ++row) out.scale[row] = quantize(x + row * x_stride, k, out.code + row * out.stride);
}

// Ba, Kiros, Hinton 2016: y = (x - mean) / sqrt(variance + eps) * gamma + beta.
void layernorm(const LayerNorm& call) {
    const int k = call.k;
    for (int row = 0; row < call.m; ++row) {
        const float* x = call.x + row * call.x_stride;
        const float mean = sum_of(k, [x](int i) { return x[i]; }) / static_cast<float>(k);
        const float squares = sum_of(k, [x, mean](int i) { return (x[i] - mean) * (x[i] - mean); });
        // Squares that add up to infinity would leave nothing but beta: they make NaN.
        const float rise = 1.0f / std::sqrt(squares / static_cast<float>(k) + call.eps) + squares * 0.0f;
        const auto value = [&](int i) {
            const float normal = (x[i] - mean) * rise, beta = call.beta == nullptr ? 0.0f : call.beta[i];
            return call.gamma == nullptr ? normal + beta : fused_float(normal, call.gamma[i], beta);
        };
        if (call.codes.code != nullptr) {
            float largest = 0.0f;
            bool finite = true;
            for (int i = 0; i < k; ++i) {
                finite = finite && std::isfinite(value(i));
                largest = std::fmax(largest, std::fabs(value(i)));
            }
            uint8_t* code = call.codes.code + row * call.codes.stride;
            const bool zeros = !finite || largest < kSmallest;
            const float factor = zeros ? 0.0f : 127.0f / largest;
            for (int i = 0; i < k; ++i) code[i] = zeros ? 0 : static_cast<uint8_t>(std::lrintf(value(i) * factor));
            for (int i = k; i < round_up(k, kGroup); ++i) code[i] = 0;
            call.codes.scale[row] = !finite ? NAN : zeros ? 0.0f : largest / 127.0f;
        }
        if (call.y != nullptr) {
            for (int i = 0; i < k; ++i) call.y[row * call.y_stride + i] = value(i);
        }
    }
}

void linear_int8(const LinearInt8& call) {
    const Int8Weights& w = *call.w;
    for (int row = 0; row < call.m; ++row) {
        const uint8_t* code = call.x.code + row * call.x.stride;
        const float scale = call.x.scale[row];
        const Int8Adapter* adapter = adapter_of(call, row);
        uint8_t low_code[kMaxRank];
        float low_scale = 0.0f;
        if (adapter != nullptr) {  // x A^T, quantized as rows are
            float low[kMaxRank];
            for (int i = 0; i < adapter->a.n; ++i) {
                low[i] = static_cast<float>(product(code, adapter->a, i)) * scale * adapter->a.scale[i];
            }
            low_scale = quantize(low, adapter->a.n, low_code);
        }
        const auto before = [&](int n) {
            const float total = static_cast<float>(product(code, w, n)) * scale;
            const float value = fused_float(total, w.scale[n], w.bias == nullptr ? 0.0f : w.bias[n]);
            if (adapter == nullptr) return value;
            const float low = static_cast<float>(product(low_code, adapter->b, n)) * low_scale;
            return fused_float(low, adapter->b.scale[n], value);
        };
        finish(call.after, row, w.n, before, call.y + row * call.y_stride);
    }
}

void linear_fp32(const LinearFp32& call) {
    const Fp32Weights& w = *call.w;
    for (int row = 0; row < call.m; ++row) {
        const float* x = call.x + row * call.x_stride;
        const auto before = [&](int n) {
            const float* weight = w.weight + int64_t{n / kColumns} * w.k * kColumns + n % kColumns;
            if (call.same_bits) {
                float total = w.bias == nullptr ? 0.0f : w.bias[n];
                for (int k = 0; k < w.k; ++k) total = fused_float(x[k], weight[int64_t{k} * kColumns], total);
                return total;
            }
            double total = w.bias == nullptr ? 0.0 : w.bias[n];
            for (int k = 0; k < w.k; ++k) total += static_cast<double>(x[k]) * weight[int64_t{k} * kColumns];
            return static_cast<float>(total);
        };
        finish(call.after, row, w.n, before, call.y + row * call.y_stride);
    }
}

}  // namespace linear_scalar
}  // namespace edgefm
