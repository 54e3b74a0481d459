// Products of up to 6 rows with up to kVectors vectors of columns, held in registers from the first word to the last.
// Named sums: GCC 12 spills arrays of them. Not the softmax between the two products: `attention_rows.inl`.
#pragma once

#include "attention_numbers.inl"

namespace edgefm {
namespace {

template <class N>
struct Sums {
    Row<N> r0, r1, r2, r3, r4, r5;
};

// words of a row: rows[row * stride + step]. Words of the columns: columns[vector * block + step * kLanes + lane].
// sums start at `first`, one per column.
template <class N>
struct Factors {
    const typename N::Word* rows;
    int64_t stride;
    const typename N::Word* columns;
    int64_t block;
    const typename N::Word* first;
    int steps;
    int64_t ahead;  // words from a vector of columns to the one that is fetched into the cache meanwhile
};

template <class N, int C>
EDGEFM_INLINE void add(Row<N>& row, typename N::Word word, const Row<N>& columns) {
    const typename N::Vector x = N::splat_word(word);
    row.a = N::multiply_add(x, columns.a, row.a);
    if constexpr (C > 1) row.b = N::multiply_add(x, columns.b, row.b);
    if constexpr (C > 2) row.c = N::multiply_add(x, columns.c, row.c);
    if constexpr (C > 3) row.d = N::multiply_add(x, columns.d, row.d);
}

// Element by element: GCC copies a whole Row through memory.
template <class N, int C>
EDGEFM_INLINE void read(Row<N>& row, const typename N::Word* p, int64_t apart) {
    row.a = load(p);
    if constexpr (C > 1) row.b = load(p + apart);
    if constexpr (C > 2) row.c = load(p + 2 * apart);
    if constexpr (C > 3) row.d = load(p + 3 * apart);
}

template <class N, int C>
EDGEFM_INLINE void fetch(const typename N::Word* p, int64_t apart) {
    __builtin_prefetch(p);
    if constexpr (C > 1) __builtin_prefetch(p + apart);
    if constexpr (C > 2) __builtin_prefetch(p + 2 * apart);
    if constexpr (C > 3) __builtin_prefetch(p + 3 * apart);
}

template <class N, int R, int C>
EDGEFM_INLINE Sums<N> product(const Factors<N>& f) {
    static_assert(R == 2 || R == 6);
    Sums<N> sums;
    read<N, C>(sums.r0, f.first, kLanes);
    read<N, C>(sums.r1, f.first, kLanes);
    if constexpr (R > 2) {
        read<N, C>(sums.r2, f.first, kLanes);
        read<N, C>(sums.r3, f.first, kLanes);
        read<N, C>(sums.r4, f.first, kLanes);
        read<N, C>(sums.r5, f.first, kLanes);
    }
    const typename N::Word *columns = f.columns, *upper = f.rows, *lower = f.rows + 3 * f.stride;
    const int64_t stride = f.stride, block = f.block, ahead = f.ahead;
    for (int step = 0; step < f.steps; ++step, columns += kLanes, ++upper, ++lower) {
        Row<N> column;
        read<N, C>(column, columns, block);
        fetch<N, C>(columns + ahead, block);
        add<N, C>(sums.r0, upper[0], column);
        add<N, C>(sums.r1, upper[stride], column);
        if constexpr (R > 2) {
            add<N, C>(sums.r2, upper[2 * stride], column);
            add<N, C>(sums.r3, lower[0], column);
            add<N, C>(sums.r4, lower[stride], column);
            add<N, C>(sums.r5, lower[2 * stride], column);
        }
    }
    return sums;
}

// Scores in units of the row's own scale: sum * scale + bias, per column; bias is -inf past the last token.
struct Scores {
    const float *scale, *bias;
    float* out;
    int64_t stride;
    float* most;  // [R][kLanes], the largest so far
};

template <int C, class N>
EDGEFM_INLINE void finish(const Row<N>& row, const Scores& s, int r) {
    float* out = s.out + r * s.stride;
    Floats most = load(s.most + r * kLanes);
    const auto one = [&](typename N::Vector sum, int i) {
        // Plus 0 or -inf: rounded once or twice is the same.
        const Floats score = multiply_add(floats(sum), load(s.scale + i * kLanes), load(s.bias + i * kLanes));
        store(out + i * kLanes, score);
        most = maximum(most, score);
    };
    one(row.a, 0);
    if constexpr (C > 1) one(row.b, 1);
    if constexpr (C > 2) one(row.c, 2);
    if constexpr (C > 3) one(row.d, 3);
    store(s.most + r * kLanes, most);
}

template <class N, int R, int C>
__attribute__((noinline)) void score_tile(const Factors<N>& f, const Scores& s) {
    const Sums<N> sums = product<N, R, C>(f);
    finish<C>(sums.r0, s, 0);
    finish<C>(sums.r1, s, 1);
    if constexpr (R > 2) {
        finish<C>(sums.r2, s, 2);
        finish<C>(sums.r3, s, 3);
        finish<C>(sums.r4, s, 4);
        finish<C>(sums.r5, s, 5);
    }
}

// Rows of the answer: sum * scale * factor of the row. Only the first `rows` of a tile, and `width` columns, are wanted.
struct Values {
    const float *scale, *factor;
    float* y;
    int64_t stride;
    int rows, width;
};

template <int C, class N>
EDGEFM_INLINE void finish(const Row<N>& row, const Values& v, int r) {
    if (r >= v.rows) return;
    float* y = v.y + r * v.stride;
    const Floats factor = splat_float(v.factor[r]);
    const auto one = [&](typename N::Vector sum, int i) {
        store_part(y + i * kLanes, floats(sum) * (load(v.scale + i * kLanes) * factor), v.width - i * kLanes);
    };
    one(row.a, 0);
    if constexpr (C > 1) one(row.b, 1);
    if constexpr (C > 2) one(row.c, 2);
    if constexpr (C > 3) one(row.d, 3);
}

template <class N, int R, int C>
__attribute__((noinline)) void value_tile(const Factors<N>& f, const Values& v) {
    const Sums<N> sums = product<N, R, C>(f);
    finish<C>(sums.r0, v, 0);
    finish<C>(sums.r1, v, 1);
    if constexpr (R > 2) {
        finish<C>(sums.r2, v, 2);
        finish<C>(sums.r3, v, 3);
        finish<C>(sums.r4, v, 4);
        finish<C>(sums.r5, v, 5);
    }
}

// `vectors` of columns in as few tiles as hold them, of sizes as equal as can be: 5 is 3 and 2, not 4 and 1.
template <class Work>
EDGEFM_INLINE void in_tiles(int vectors, Work work) {
    for (int done = 0, left = vectors; left > 0;) {
        const int tiles = (left + kVectors - 1) / kVectors, size = (left + tiles - 1) / tiles;
        if (size == 1) work(std::integral_constant<int, 1>{}, done);
        if (size == 2) work(std::integral_constant<int, 2>{}, done);
        if constexpr (kVectors > 2) {
            if (size == 3) work(std::integral_constant<int, 3>{}, done);
            if (size == 4) work(std::integral_constant<int, 4>{}, done);
        }
        done += size;
        left -= size;
    }
}

}  // namespace
}  // namespace edgefm
