// The float linear layer over strips of 32 columns and tiles of up to `kRows` rows (tiles.inl), over `Floats` of
// `kLanes`, which the including unit defines. Everything else is in an unnamed namespace.
#pragma once

#include "finish.inl"
#include "tiles.inl"

namespace edgefm {
namespace {

constexpr int kBlockK = 192;     // a strip's weights and a tile's activations of so many k stay in the first-level cache,
constexpr int kBlockRows = 108;  // and so many rows' sums beside them, for all of k
constexpr int64_t kNearFloats = 1 << 18;  // activations that stay in the second-level cache

// Two vectors of accumulators per row, in registers, on top of the sums in `out`, [R][kStrip]. `ahead`: weights wanted next.
template <int R, bool same_bits>
__attribute__((noinline)) void float_tile(const float* x, int64_t stride, const float* w0, const float* w1, int k,
                                          const float* ahead, float* out) {
    Floats a[R], b[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        a[r] = load(out + r * kStrip);
        b[r] = load(out + r * kStrip + kLanes);
    }
    const float *x0 = x, *x3 = x + 3 * stride, *x6 = x + 6 * stride, *x9 = x + 9 * stride;
    const int64_t other = w1 - w0;
    const auto step = [&](int i) __attribute__((always_inline)) {
        const Floats u = load(w0 + i * kColumns), v = load(w0 + other + i * kColumns);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            // Not subscripted at once: GCC 12 takes another row then, with -fsanitize=undefined.
            const float* row = r < 3 ? x0 : r < 6 ? x3 : r < 9 ? x6 : x9;
            const Floats value = splat_float(row[r % 3 * stride + i]);
            a[r] = same_bits ? fused(value, u, a[r]) : multiply_add(value, u, a[r]);
            b[r] = same_bits ? fused(value, v, b[r]) : multiply_add(value, v, b[r]);
        }
    };
    const auto advance = [&](int steps) __attribute__((always_inline)) {
        w0 += steps * kColumns;
        x0 += steps;
        x3 += steps;
        x6 += steps;
        x9 += steps;
    };
    for (; k >= 4; k -= 4) {
        prefetch(ahead);
        ahead += 16;
        step(0);
        step(1);
        step(2);
        step(3);
        advance(4);
    }
    for (; k > 0; --k) {
        step(0);
        advance(1);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        store(out + r * kStrip, a[r]);
        store(out + r * kStrip + kLanes, b[r]);
    }
}

typedef void FloatTile(const float*, int64_t, const float*, const float*, int, const float*, float*);

template <bool same_bits, typename>
struct FloatTiles;
template <bool same_bits, int... R>
struct FloatTiles<same_bits, Heights<R...>> {
    static constexpr FloatTile* of[] = {nullptr, float_tile<R, same_bits>...};
};

// Adds to sums[rows][kStrip] the product of x, at `first`, with the weights of k from `first` to `last`, columns from `column`
// on. Each call of the tiles fetches its share, a line for four k, of the weights that follow: `tile` counts them.
inline void float_product(const float* x, int64_t stride, int rows, const Fp32Weights& w, bool same_bits, int column, int first,
                          int last, int tile, float* sums) {
    const int64_t block = int64_t{w.k} * kColumns;
    const int end = static_cast<int>(round_up(w.n, kColumns)), k = last - first;
    for (int c = column; c < column + kStrip && c < end; c += 2 * kLanes) {
        const int second = c + kLanes < end ? c + kLanes : c;  // of a last block without a neighbour: computed twice
        const float* w0 = w.weight + c / kColumns * block + c % kColumns + int64_t{first} * kColumns;
        const float* w1 = w.weight + second / kColumns * block + second % kColumns + int64_t{first} * kColumns;
        // What follows in w0's block, or in the strip after.
        const int64_t after = int64_t{last} * kColumns + tile / 2 * (k / 4 * 16);
        const int64_t from = (c / kColumns + tile % 2) * block + after;
        const bool more = tile / 2 * (k / 4) < k && from + k / 4 * 16 <= end / kColumns * block;
        (same_bits ? FloatTiles<true, AllHeights>::of : FloatTiles<kRoundsOnce, AllHeights>::of)[rows](
            x, stride, w0, w1, k, more ? w.weight + from : w0, sums + c - column);
    }
}

inline void start_sums(const float* bias, int rows, int columns, float* sums) {
    for (int c = 0; c < columns; c += kLanes) {
        const Floats value = bias == nullptr ? splat_float(0.0f) : load(bias + c);
        for (int r = 0; r < rows; ++r) store(sums + r * kStrip + c, value);
    }
}

}  // namespace

namespace EDGEFM_LINEAR_UNIT {

void linear_fp32(const LinearFp32& call) {
    const Fp32Weights& w = *call.w;
    alignas(64) float sums[kBlockRows * kStrip];
    const int columns = output_columns(call.after, w.n),
              strip = call.after.activation == Activation::swiglu ? kColumns : kStrip;
    const int near = static_cast<int>(kNearFloats / w.k / kRows * kRows);
    const int most = near < kRows ? kRows : near < kBlockRows ? near : kBlockRows;
    const int chunks = (call.m + most - 1) / most, padded = static_cast<int>(round_up(w.n, kColumns));
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const int from = static_cast<int>(int64_t{call.m} * chunk / chunks);
        const int to = static_cast<int>(int64_t{call.m} * (chunk + 1) / chunks);
        for (int column = 0; column < w.n; column += kStrip) {
            const int wide = padded - column < kStrip ? padded - column : kStrip;
            start_sums(w.bias == nullptr ? nullptr : w.bias + column, to - from, wide, sums);
            for (int first = 0; first < w.k; first += kBlockK) {
                const int last = first + kBlockK < w.k ? first + kBlockK : w.k;
                int tile = 0;
                for_tiles(from, to, [&](int row, int rows) {
                    const float* x = call.x + row * call.x_stride + first;
                    float_product(x, call.x_stride, rows, w, call.same_bits, column, first, last, tile++,
                                  sums + (row - from) * kStrip);
                });
            }
            finish(
                {call.after, call.y + from * call.y_stride, call.y_stride, from, to - from, column / kStrip * strip, columns},
                Fp32Sums{sums});
        }
    }
}

}  // namespace EDGEFM_LINEAR_UNIT
}  // namespace edgefm
