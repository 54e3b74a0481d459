// The float linear layer over strips of 32 columns and tiles of up to `kRows` rows (linear_int8.inl), over `Floats` of `kLanes`,
// which the including unit defines. Everything else is in an unnamed namespace.

namespace edgefm {
namespace {

constexpr int64_t kNearFloats = 512 << 10;  // bytes of activations that stay in the second-level cache

// Two vectors of accumulators per row, in registers, from the bias on, or from zero. `out`: [R][kStrip].
template <int R>
__attribute__((noinline)) void float_tile(const float* x, int64_t stride, const float* w0, const float* w1, int k,
                                          const float* bias0, const float* bias1, float* out) {
    Floats a[R], b[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        a[r] = bias0 == nullptr ? splat_float(0.0f) : load(bias0);
        b[r] = bias0 == nullptr ? splat_float(0.0f) : load(bias1);
    }
    const float *x0 = x, *x3 = x + 3 * stride, *x6 = x + 6 * stride, *x9 = x + 9 * stride;
    for (int i = 0; i < k; ++i) {
        const Floats u = load(w0), v = load(w1);
        w0 += kColumns;
        w1 += kColumns;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const Floats value = splat_float((r < 3 ? x0 : r < 6 ? x3 : r < 9 ? x6 : x9)[r % 3 * stride]);
            a[r] = multiply_add(value, u, a[r]);
            b[r] = multiply_add(value, v, b[r]);
        }
        ++x0;
        ++x3;
        ++x6;
        ++x9;
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        store(out + r * kStrip, a[r]);
        store(out + r * kStrip + kLanes, b[r]);
    }
}

typedef void FloatTile(const float*, int64_t, const float*, const float*, int, const float*, const float*, float*);

template <int... R>
struct FloatTiles {
    static constexpr FloatTile* of[] = {nullptr, float_tile<R>...};
};

// As many as there are rows in an int8 tile.
template <int... R>
FloatTiles<R...> float_tiles(Tiles<R...>);
typedef decltype(float_tiles(AllTiles())) AllFloatTiles;

inline void float_product(const float* x, int64_t stride, int rows, const Fp32Weights& w, int column, float* sums) {
    const int64_t block = int64_t{w.k} * kColumns;
    const int end = static_cast<int>(round_up(w.n, kColumns));
    for (int c = column; c < column + kStrip && c < end; c += 2 * kLanes) {
        const int second = c + kLanes < end ? c + kLanes : c;  // of a last block without a neighbour: computed twice
        const float* w0 = w.weight + c / kColumns * block + c % kColumns;
        const float* w1 = w.weight + second / kColumns * block + second % kColumns;
        const float* bias0 = w.bias == nullptr ? nullptr : w.bias + c;
        const float* bias1 = w.bias == nullptr ? nullptr : w.bias + second;
        AllFloatTiles::of[rows](x, stride, w0, w1, w.k, bias0, bias1, sums + c - column);
    }
}

}  // namespace

namespace EDGEFM_LINEAR_UNIT {

void linear_fp32(const LinearFp32& call) {
    const Fp32Weights& w = *call.w;
    alignas(64) float sums[kRows * kStrip];
    const int columns = output_columns(call.after, w.n), strip = call.after.activation == Activation::swiglu ? kColumns : kStrip;
    const int64_t near = kNearFloats / static_cast<int64_t>(sizeof(float)) / w.k / kRows * kRows;
    const int chunk = near < kRows ? kRows : near > call.m ? call.m : static_cast<int>(near);
    for (int from = 0; from < call.m; from += chunk) {
        const int to = from + chunk < call.m ? from + chunk : call.m;
        for (int column = 0; column < w.n; column += kStrip) {
            for_tiles(from, to, [&](int row, int rows) {
                float_product(call.x + row * call.x_stride, call.x_stride, rows, w, column, sums);
                finish({call.after, call.y + row * call.y_stride, call.y_stride, row, rows, column / kStrip * strip, columns},
                       Fp32Sums{sums});
            });
        }
    }
}

}  // namespace EDGEFM_LINEAR_UNIT
}  // namespace edgefm
