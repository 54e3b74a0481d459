// Attention in plain loops: what the other instruction sets are held to, and what runs where there is none of them. In int8
// the answer has their bits; log-sum-exp, maps and floats are near.

#include <cmath>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/exp_numbers.inl"
#include "kernels/fused.inl"

namespace edgefm {
namespace {

constexpr int kMaxWidth = 128;

// K and V: rows of codes and their scales (int8), or rows of floats. `values` points at codes or floats.
struct Packed {
    int8_t *k_code, *v_code;
    float *k_scale, *v_scale, *mean, *k, *v;

    Packed(uint8_t* base, int tokens, int width) {
        const int64_t all = int64_t{tokens} * width;
        k = reinterpret_cast<float*>(base);
        v = k + all;
        k_scale = reinterpret_cast<float*>(base);
        v_scale = k_scale + tokens;
        mean = v_scale + width;
        k_code = reinterpret_cast<int8_t*>(mean + width);
        v_code = k_code + all;
    }
};

size_t packed_bytes(int tokens, int width, bool int8) {
    const size_t all = static_cast<size_t>(tokens) * width;
    return int8 ? 2 * all + 4 * (static_cast<size_t>(tokens) + 2 * width) : 8 * all;
}

// code = round(x * factor), x = code * worth. Zeros and denormals: codes of 0. NaN or infinity: worth is NaN.
struct Scale {
    float factor, worth;
};

struct Largest {
    float most = 0.0f;
    bool finite = true;

    void see(float x) {
        finite = finite && std::isfinite(x);
        if (std::fabs(x) > most) most = std::fabs(x);
    }
    Scale scale() const {
        if (!finite) return {0.0f, NAN};
        if (most < 1e-30f) return {0.0f, 1.0f};
        return {127.0f / most, most / 127.0f};
    }
};

int8_t code(float x, Scale scale) {
    return scale.factor == 0.0f ? 0 : static_cast<int8_t>(std::lrint(x * scale.factor));
}

void keys_mean(const Attention& a, float* mean) {
    for (int c = 0; c < a.width; ++c) {
        float sum[4] = {};  // the order of the vector units: its bits are in K's codes
        const int whole = a.tokens / 4 * 4;
        for (int t = 0; t < a.tokens; ++t) sum[t < whole ? t % 4 : 0] += a.k[t * a.stride + c];
        mean[c] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) / static_cast<float>(a.tokens);
    }
}

void pack_codes(const Attention& a) {
    const Packed p(a.packed, a.tokens, a.width);
    keys_mean(a, p.mean);
    for (int t = 0; t < a.tokens; ++t) {
        const float* k = a.k + t * a.stride;
        Largest largest;
        for (int c = 0; c < a.width; ++c) largest.see(k[c] - p.mean[c]);
        const Scale scale = largest.scale();
        p.k_scale[t] = scale.worth;
        for (int c = 0; c < a.width; ++c) p.k_code[int64_t{t} * a.width + c] = code(k[c] - p.mean[c], scale);
    }
    for (int c = 0; c < a.width; ++c) {
        Largest largest;
        for (int t = 0; t < a.tokens; ++t) largest.see(a.v[t * a.stride + c]);
        const Scale scale = largest.scale();
        p.v_scale[c] = scale.worth;
        for (int t = 0; t < a.tokens; ++t) p.v_code[int64_t{t} * a.width + c] = code(a.v[t * a.stride + c], scale);
    }
}

int32_t bits_of(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

float from_bits(int32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The codes of P in place of a row of scores, as kernels/attention_exp.inl has them: with x = s rate = n + f,
// 255 exp(scale (s - m)) = 255 2^(whole - m rate) 2^f 2^(n - whole), whole the integer next to m rate, a polynomial for 2^f.
void to_codes(float* scores, int tokens, float most, float rate) {
    constexpr float k2To23 = 8388608.0f;  // leaves an integer in a sum's last bits
    if (most * rate > kLargestTop || most * rate < -kLargestTop) {
        for (int t = 0; t < tokens; ++t) scores[t] -= most;
        most = 0.0f;
    }
    const float top = most * rate, whole = std::rint(top), scale = 255.0f * power_of_two(whole - top);
    const float least = (top - 126.0f) / rate, shift = kMagic - whole;
    const float c1 = scale * kExp1, c2 = scale * kExp2, c3 = scale * kExp3;
    for (int t = 0; t < tokens; ++t) {
        const float s = scores[t] > least ? scores[t] : least;
        const float shifted = fused_float(s, rate, shift), f = fused_float(s, rate, shift - shifted);
        const float e = fused_float(f, fused_float(f, fused_float(f, c3, c2), c1), scale);
        const float power = from_bits(static_cast<int32_t>(static_cast<uint32_t>(bits_of(shifted)) << 23));
        scores[t] = static_cast<float>(bits_of(fused_float(e, power, k2To23)) & 255);
    }
}

void attend_codes(const Attention& a, int row, float* scores) {
    const Packed p(a.packed, a.tokens, a.width);
    const float* q = a.q + row * a.stride;
    Largest largest;
    for (int c = 0; c < a.width; ++c) largest.see(q[c]);
    const Scale scale = largest.scale();
    int q_code[kMaxWidth];
    for (int c = 0; c < a.width; ++c) q_code[c] = code(q[c], scale);

    float most = -INFINITY, broken = scale.worth * 0.0f;
    for (int t = 0; t < a.tokens; ++t) {
        int32_t sum = 0;
        for (int c = 0; c < a.width; ++c) sum += q_code[c] * p.k_code[int64_t{t} * a.width + c];
        scores[t] = static_cast<float>(sum) * p.k_scale[t];
        broken += p.k_scale[t] * 0.0f;
        if (scores[t] > most) most = scores[t];
    }
    const float worth = scale.worth * a.scale;
    double exact = 0.0;
    for (int t = 0; t < a.tokens; ++t) exact += std::exp((scores[t] - most) * worth);
    for (int t = 0; a.row0 && row == 0 && t < a.tokens; ++t) {
        a.row0[t] = static_cast<float>(std::exp((scores[t] - most) * worth) / exact) + broken;
    }

    to_codes(scores, a.tokens, most, worth * 1.44269504f);
    int32_t total = 0, y[kMaxWidth] = {};
    for (int t = 0; t < a.tokens; ++t) {
        const int p_code = static_cast<int>(scores[t]);
        total += p_code;
        for (int c = 0; c < a.width; ++c) y[c] += p_code * p.v_code[int64_t{t} * a.width + c];
    }
    const float factor = 1.0f / static_cast<float>(total) + broken;
    for (int c = 0; c < a.width; ++c) a.y[row * a.y_stride + c] = static_cast<float>(y[c]) * (p.v_scale[c] * factor);

    double shift = 0.0;  // what was taken from K
    for (int c = 0; c < a.width; ++c) shift += double{q[c]} * p.mean[c];
    if (a.lse) a.lse[row] = static_cast<float>(double{most} * worth + shift * a.scale + std::log(exact)) + broken;
}

void attend_floats(const Attention& a, int row, float* scores) {
    const Packed p(a.packed, a.tokens, a.width);
    const float* q = a.q + row * a.stride;
    float most = -INFINITY;
    for (int t = 0; t < a.tokens; ++t) {
        double sum = 0.0;
        for (int c = 0; c < a.width; ++c) sum += double{q[c]} * p.k[int64_t{t} * a.width + c];
        scores[t] = static_cast<float>(sum);
        if (scores[t] > most) most = scores[t];
    }
    double total = 0.0, y[kMaxWidth] = {};
    for (int t = 0; t < a.tokens; ++t) {
        scores[t] = std::exp((scores[t] - most) * a.scale);
        total += scores[t];
        for (int c = 0; c < a.width; ++c) y[c] += double{scores[t]} * p.v[int64_t{t} * a.width + c];
    }
    for (int c = 0; c < a.width; ++c) a.y[row * a.y_stride + c] = static_cast<float>(y[c] / total);
    if (a.lse) a.lse[row] = static_cast<float>(double{most} * a.scale + std::log(total));
    for (int t = 0; a.row0 && row == 0 && t < a.tokens; ++t) a.row0[t] = static_cast<float>(scores[t] / total);
}

}  // namespace

namespace attention_scalar {

size_t packed(int tokens, int width, bool int8) {
    return packed_bytes(tokens, width, int8);
}
size_t scratch(int tokens, int, bool) {
    return 4 * static_cast<size_t>(tokens);
}
void pack_int8(const Attention& a) {
    pack_codes(a);
}
void attend_int8(const Attention& a, int first, int last) {
    for (int row = first; row < last; ++row) attend_codes(a, row, reinterpret_cast<float*>(a.scratch));
}
void pack_fp32(const Attention& a) {
    const Packed p(a.packed, a.tokens, a.width);
    for (int t = 0; t < a.tokens; ++t) {
        std::memcpy(p.k + int64_t{t} * a.width, a.k + t * a.stride, 4 * static_cast<size_t>(a.width));
        std::memcpy(p.v + int64_t{t} * a.width, a.v + t * a.stride, 4 * static_cast<size_t>(a.width));
    }
}
void attend_fp32(const Attention& a, int first, int last) {
    for (int row = first; row < last; ++row) attend_floats(a, row, reinterpret_cast<float*>(a.scratch));
}

}  // namespace attention_scalar
}  // namespace edgefm
