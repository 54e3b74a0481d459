// What follows a product: bias, adapter, activation, LayerScale, residual; from sums in a small buffer to rows of y. Not the
// product. Over `Floats` of `kLanes`, which the including unit defines; everything is in an unnamed namespace.
#pragma once

#include "activation.inl"

namespace edgefm {
namespace {

constexpr int kStrip = 2 * kColumns;  // columns of a strip of weights: a gate and its value lie in one

// The values before the activation, of a strip's rows: of int8 sums ...
struct Int8Sums {
    static constexpr bool kSameBits = true;
    const int32_t* sums;  // [rows][kStrip]
    const float* row_scale;
    const float *scale, *bias;  // of the strip's columns; bias may be null
    const int32_t* low_sums;    // of the adapter, or null
    const float *low_row_scale, *low_scale;

    // ... in the vector of columns c to c + kLanes - 1.
    struct Column {
        const Int8Sums& of;
        int c;
        Floats scale, bias, low_scale;

        Column(const Int8Sums& all, int column)
            : of(all),
              c(column),
              scale(load(all.scale + c)),
              bias(all.bias == nullptr ? splat_float(0.0f) : load(all.bias + c)),
              low_scale(all.low_sums == nullptr ? splat_float(0.0f) : load(all.low_scale + c)) {}

        Floats operator()(int r) const {
            const Floats total = to_floats(load_ints(of.sums + r * kStrip + c)) * splat_float(of.row_scale[r]);
            const Floats value = fused(total, scale, bias);
            if (of.low_sums == nullptr) return value;
            const Floats low = to_floats(load_ints(of.low_sums + r * kStrip + c)) * splat_float(of.low_row_scale[r]);
            return fused(low, low_scale, value);
        }
    };
};

// ... and of float sums, which have the bias already, and are activated as it is quickest.
struct Fp32Sums {
    static constexpr bool kSameBits = false;
    const float* sums;

    struct Column {
        const float* at;

        Column(const Fp32Sums& all, int c) : at(all.sums + c) {}

        Floats operator()(int r) const { return load(at + r * kStrip); }
    };
};

// Where a strip's rows go.
struct Target {
    const Epilogue& after;
    float* y;  // the first row, column 0
    int64_t stride;
    int row, rows;
    int column, columns;  // of y: the strip's first, and one past y's last
};

template <Activation kind, bool whole, typename Sums>
inline void finish_lanes(const Target& to, const Sums& sums, int c, int lanes) {
    const typename Sums::Column gate(sums, c), value(sums, kind == Activation::swiglu ? c + kColumns : c);
    const int column = to.column + c;
    const float* gamma = to.after.gamma == nullptr ? nullptr : to.after.gamma + column;
    const float* residual =
        to.after.residual == nullptr ? nullptr : to.after.residual + to.row * to.after.residual_stride + column;
    float* y = to.y + column;
    for (int r = 0; r < to.rows; ++r, y += to.stride) {
        Floats v = activate<kind, Sums::kSameBits>(gate(r));
        if constexpr (kind == Activation::swiglu) v *= value(r);
        if (gamma != nullptr) v *= whole ? load(gamma) : load_part(gamma, lanes);
        if (residual != nullptr) {
            v += whole ? load(residual) : load_part(residual, lanes);
            residual += to.after.residual_stride;
        }
        if constexpr (whole) {
            store(y, v);
        } else {
            store_part(y, v, lanes);
        }
    }
}

template <Activation kind, typename Sums>
__attribute__((noinline)) void finish_as(const Target& to, const Sums& sums) {
    const int wide = kind == Activation::swiglu ? kColumns : kStrip;
    for (int c = 0; c < wide && to.column + c < to.columns; c += kLanes) {
        const int lanes = to.columns - to.column - c;
        if (lanes >= kLanes) {
            finish_lanes<kind, true>(to, sums, c, kLanes);
        } else {
            finish_lanes<kind, false>(to, sums, c, lanes);
        }
    }
}

template <typename Sums>
inline void finish(const Target& to, const Sums& sums) {
    switch (to.after.activation) {
        case Activation::gelu:
            return finish_as<Activation::gelu>(to, sums);
        case Activation::gelu_tanh:
            return finish_as<Activation::gelu_tanh>(to, sums);
        case Activation::swiglu:
            return finish_as<Activation::swiglu>(to, sums);
        default:
            return finish_as<Activation::none>(to, sums);
    }
}

inline int output_columns(const Epilogue& after, int n) {
    return after.activation == Activation::swiglu ? n / 2 : n;
}

}  // namespace
}  // namespace edgefm
