// Linear layers, LayerNorm and quantization in plain loops: what the other instruction sets are held to, and what runs where
// there is none of them. Integers are theirs exactly; floats differ in their last bits (libm here, polynomials there).

#include <cfloat>
#include <cmath>
#include <cstring>

#include "kernels/linear.h"

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

float activate(Activation activation, float x) {
    switch (activation) {
        case Activation::gelu:  // x Phi(x), Hendrycks and Gimpel 2016
            return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
        case Activation::gelu_tanh:
            return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
        case Activation::swiglu:  // the gate's silu, Shazeer 2020
            return x / (1.0f + std::exp(-x));
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
        float value = activate(after.activation, before(gate));
        if (gated) value *= before(gate + kColumns);
        if (after.gamma != nullptr) value *= after.gamma[c];
        if (residual != nullptr) value += residual[c];
        y[c] = value;
    }
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
        double sum = 0.0, squares = 0.0;
        for (int i = 0; i < k; ++i) sum += x[i];
        const double mean = sum / k;
        for (int i = 0; i < k; ++i) squares += (x[i] - mean) * (x[i] - mean);
        const bool infinite = !(std::fabs(sum) <= FLT_MAX && squares <= FLT_MAX);  // in float, as the others add
        const double rise = infinite ? NAN : 1.0 / std::sqrt(squares / k + call.eps);
        const auto value = [&](int i) {
            const float normal = static_cast<float>((x[i] - mean) * rise);
            return normal * (call.gamma == nullptr ? 1.0f : call.gamma[i]) + (call.beta == nullptr ? 0.0f : call.beta[i]);
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
            float value = static_cast<float>(product(code, w, n)) * scale * w.scale[n];
            if (w.bias != nullptr) value += w.bias[n];
            if (adapter == nullptr) return value;
            return value + static_cast<float>(product(low_code, adapter->b, n)) * low_scale * adapter->b.scale[n];
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
            double total = w.bias == nullptr ? 0.0 : w.bias[n];
            for (int k = 0; k < w.k; ++k) total += static_cast<double>(x[k]) * weight[int64_t{k} * kColumns];
            return static_cast<float>(total);
        };
        finish(call.after, row, w.n, before, call.y + row * call.y_stride);
    }
}

}  // namespace linear_scalar
}  // namespace edgefm
