// The int8 linear layer over strips of 32 columns and tiles of up to `kRows` rows, with `Codes`, `Sum` and their functions,
// which the including unit defines. Everything else is in an unnamed namespace.
//
//   Code                    of an activation as the dot unit wants it: uint8_t = code + 128, or int16_t
//   kPair                   columns of two vectors of weights; kPair / 2 of one
//   load_weights, splat_codes, dot     the same four k of some columns; four codes of a row in all lanes; sums of products
//   start(const int32_t*)   from the weights' sums: -128 * sum where codes are code + 128, else 0
//   store_sums(p, a, b)     the sums of kPair columns
#pragma once

#include "finish.inl"
#include "rows.inl"
#include "tiles.inl"

namespace edgefm {
namespace {

constexpr bool kWiden = sizeof(Code) > 1;
constexpr int kWideK = 4096;          // the most codes of a row that are widened at a time
constexpr int64_t kNear = 384 << 10;  // bytes of activations that stay in the second-level cache while weights pass by

// One or two vectors of accumulators per row, in registers: as arrays of one dimension, for GCC 12 keeps those of two in
// memory. `out`: [R][kStrip]. `ahead`: weights that will be wanted next, a line for each 16 k.
template <int R, bool two>
__attribute__((noinline)) void tile(const Code* x, int64_t stride, const int8_t* w0, const int8_t* w1, int groups,
                                    const int32_t* sum0, const int32_t* sum1, const int8_t* ahead, int32_t* out) {
    Ints a[R], b[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        a[r] = start(sum0);
        if (two) b[r] = start(sum1);
    }
    const Code *x0 = x, *x3 = x + 3 * stride, *x6 = x + 6 * stride, *x9 = x + 9 * stride;
    const int64_t other = w1 - w0;
    const auto step = [&](int i) __attribute__((always_inline)) {
        const Weights u = load_weights(w0 + i * kColumns * kGroup);
        const Weights v = two ? load_weights(w0 + other + i * kColumns * kGroup) : u;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const Weights code = splat_codes((r < 3 ? x0 : r < 6 ? x3 : r < 9 ? x6 : x9) + r % 3 * stride + i * kGroup);
            a[r] = dot(a[r], code, u);
            if (two) b[r] = dot(b[r], code, v);
        }
    };
    const auto advance = [&](int steps) __attribute__((always_inline)) {
        w0 += steps * kColumns * kGroup;
        x0 += steps * kGroup;
        x3 += steps * kGroup;
        x6 += steps * kGroup;
        x9 += steps * kGroup;
    };
    for (; groups >= 4; groups -= 4) {
        prefetch(ahead);
        ahead += 64;
        step(0);
        step(1);
        step(2);
        step(3);
        advance(4);
    }
    for (; groups > 0; --groups) {
        step(0);
        advance(1);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) store_sums(out + r * kStrip, a[r], two ? b[r] : a[r]);
}

typedef void Tile(const Code*, int64_t, const int8_t*, const int8_t*, int, const int32_t*, const int32_t*, const int8_t*,
                  int32_t*);

template <typename>
struct Tiles;
template <int... R>
struct Tiles<Heights<R...>> {
    static constexpr Tile* one[] = {nullptr, tile<R, false>...};
    static constexpr Tile* two[] = {nullptr, tile<R, true>...};
};

// sums[rows][kStrip] of the codes `x` with the columns from `column` on, of k from `first` to `last`, both multiples of kGroup.
// `ahead`: weights wanted soon, or null.
inline void product(const Code* x, int64_t stride, int rows, const Int8Weights& w, int column, int first, int last,
                    const int8_t* ahead, int32_t* sums) {
    const int64_t block = round_up(w.k, kGroup) * kColumns;
    const int end = static_cast<int>(round_up(w.n, kColumns)), groups = (last - first) / kGroup;
    for (int c = column; c < column + kStrip && c < end; c += kPair) {
        const int second = c + kPair / 2;
        const bool two = second < end;  // a last block may have no neighbour
        const int8_t* w0 = w.weight + c / kColumns * block + c % kColumns * kGroup + int64_t{first} * kColumns;
        const int8_t* w1 =
            two ? w.weight + second / kColumns * block + second % kColumns * kGroup + int64_t{first} * kColumns : w0;
        const int8_t* soon = ahead == nullptr ? w0 : ahead;
        (two ? Tiles<AllHeights>::two : Tiles<AllHeights>::one)[rows](
            x, stride, w0, w1, groups, w.sum + c, two ? w.sum + second : w.sum + c, soon, sums + c - column);
    }
}

// Some rows' product with a strip of columns. Where codes are widened, all strips share one widening; more k than `kMost` are
// taken in pieces.
template <int kMost>
struct Product {
    alignas(64) int16_t wide[kWiden ? kRows * kMost : 1];
    const uint8_t* widened = nullptr;

    void operator()(const uint8_t* code, int64_t stride, int rows, const Int8Weights& w, int column, const int8_t* ahead,
                    int32_t* sums) {
        const int all = static_cast<int>(round_up(w.k, kGroup));
        if (!kWiden) return product(reinterpret_cast<const Code*>(code), stride, rows, w, column, 0, all, ahead, sums);
        for (int first = 0; first < all; first += kMost) {
            const int last = first + kMost < all ? first + kMost : all;
            if (all > kMost || widened != code) {
                for (int r = 0; r < rows; ++r) widen(code + r * stride + first, last - first, wide + r * kMost);
                widened = code;
            }
            const Code* x = reinterpret_cast<const Code*>(wide);
            if (first == 0) {
                product(x, kMost, rows, w, column, first, last, ahead, sums);
                continue;
            }
            int32_t piece[kRows * kStrip] = {};
            product(x, kMost, rows, w, column, first, last, ahead, piece);
            for (int i = 0; i < rows * kStrip; ++i) sums[i] = static_cast<int32_t>(uint32_t(sums[i]) + uint32_t(piece[i]));
        }
    }
};

// x A^T of rows first to last - 1, quantized as rows are: codes in `code`, kMaxRank apart.
inline void low_rank(const LinearInt8& call, const Int8Weights& a, int first, int last, uint8_t* code, float* scale) {
    Product<kWideK> product_a;
    alignas(64) int32_t sums[kRows * kStrip];
    alignas(64) float low[kRows * kMaxRank];
    for_tiles(first, last, [&](int row, int rows) {
        for (int column = 0; column < a.n; column += kStrip) {
            product_a(call.x.code + row * call.x.stride, call.x.stride, rows, a, column, nullptr, sums);
            for (int c = 0; c < kStrip && column + c < a.n; c += kLanes) {
                const Floats worth = load(a.scale + column + c);
                for (int r = 0; r < rows; ++r) {
                    const Floats total = to_floats(load_ints(sums + r * kStrip + c)) * splat_float(call.x.scale[row + r]);
                    store(low + r * kMaxRank + column + c, total * worth);
                }
            }
        }
        for (int r = 0; r < rows; ++r) scale[row + r] = quantize_row(low + r * kMaxRank, a.n, code + (row + r) * kMaxRank);
    });
}

// Rows first to last - 1, which share an adapter or have none.
void linear_rows(const LinearInt8& call, int first, int last, const Int8Adapter* adapter) {
    const Int8Weights& w = *call.w;
    uint8_t* low_code = call.scratch;
    float* low_scale = adapter == nullptr ? nullptr : reinterpret_cast<float*>(low_code + int64_t{call.m} * kMaxRank);
    if (adapter != nullptr) low_rank(call, adapter->a, first, last, low_code, low_scale);

    Product<kWideK> main;
    Product<kMaxRank> second;
    alignas(64) int32_t sums[kRows * kStrip], low_sums[kRows * kStrip];
    const int columns = output_columns(call.after, w.n),
              strip = call.after.activation == Activation::swiglu ? kColumns : kStrip;
    const int64_t strip_bytes = round_up(w.k, kGroup) * kStrip, tile_bytes = round_up(w.k, kGroup) / 16 * 64;
    const auto cell = [&](int row, int rows, int column, int tile) {
        Int8Sums all = {sums, call.x.scale + row, w.scale + column, nullptr, nullptr, nullptr, nullptr};
        if (w.bias != nullptr) all.bias = w.bias + column;
        // The next strip's weights are brought near, each tile fetching a part.
        const bool more = column + 2 * kStrip <= w.n && (tile + 1) * tile_bytes <= strip_bytes;
        const int8_t* ahead = more ? w.weight + (column / kStrip + 1) * strip_bytes + tile * tile_bytes : nullptr;
        main(call.x.code + row * call.x.stride, call.x.stride, rows, w, column, ahead, sums);
        if (adapter != nullptr) {
            second(low_code + int64_t{row} * kMaxRank, kMaxRank, rows, adapter->b, column, nullptr, low_sums);
            all.low_sums = low_sums;
            all.low_row_scale = low_scale + row;
            all.low_scale = adapter->b.scale + column;
        }
        finish({call.after, call.y + row * call.y_stride, call.y_stride, row, rows, column / kStrip * strip, columns}, all);
    };
    // Weights pass once over as many rows as stay near; a tile whose codes were widened sees all weights before the next.
    const int64_t near = kWiden ? kRows : kNear / call.x.stride / kRows * kRows;
    const int chunk = near < kRows ? kRows : near > last - first ? last - first : static_cast<int>(near);
    for (int from = first; from < last; from += chunk) {
        const int to = from + chunk < last ? from + chunk : last;
        for (int column = 0; column < w.n; column += kStrip) {
            int tile = 0;
            for_tiles(from, to, [&](int row, int rows) { cell(row, rows, column, tile++); });
        }
    }
}

inline int adapter_index(const LinearInt8& call, int row) {
    return call.adapters == nullptr ? -1 : call.adapter_of == nullptr ? 0 : call.adapter_of[row];
}

}  // namespace

namespace EDGEFM_LINEAR_UNIT {

void linear_int8(const LinearInt8& call) {
    for (int first = 0; first < call.m;) {
        const int index = adapter_index(call, first);
        int last = first + 1;
        while (last < call.m && adapter_index(call, last) == index) ++last;
        linear_rows(call, first, last, index < 0 ? nullptr : call.adapters + index);
        first = last;
    }
}

}  // namespace EDGEFM_LINEAR_UNIT
}  // namespace edgefm
