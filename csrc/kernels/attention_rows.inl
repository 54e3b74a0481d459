// Rows of attention, up to six together:
//
//     s_j = q · k_j            whole rows of scores, which lie in the first-level cache, and their exact maximum m
//     p_j = exp(scale (s_j - m))           int8: rounded to u8, 255 for one
//     y   = sum_j p_j v_j / sum_j p_j      int8: the sum of the rounded p_j, so that they add up to one
//
// Not how K and V are packed: `attention_pack.inl`.
#pragma once

#include "attention_exp.inl"
#include "attention_pack.inl"
#include "attention_tiles.inl"

namespace edgefm {
namespace {

template <class N>
struct Strip {
    int64_t q_stride, score_stride, p_stride;  // words
    typename N::Word *q, *p;
    float *scores, *most;
    size_t bytes;

    Strip(uint8_t* base, int tokens, int width) {
        const int64_t padded = up(tokens, kLanes);
        // One line of the cache more: rows a multiple of 4,096 bytes apart would share their sets.
        score_stride = up(padded, 16) + 16;
        q_stride = up(width, 16) / N::kPerWord;
        p_stride = N::kPerWord == 1 ? score_stride : up(padded / N::kPerWord, 16) + 16;
        uintptr_t next = reinterpret_cast<uintptr_t>(base);  // base is null where only the size is asked for
        const auto take = [&next](auto*& part, int64_t words) {
            part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(next);
            next += up(4 * words, 64);
        };
        take(scores, kRows * score_stride);
        take(most, kRows * kLanes);
        take(q, kRows * q_stride);
        if constexpr (N::kPerWord == 1) {
            p = scores;
        } else {
            take(p, kRows * p_stride);
        }
        bytes = next - reinterpret_cast<uintptr_t>(base);
    }
};

struct Total {
    float codes, exact;  // sums of p as the product uses it and, where it was kept, before rounding
};

// Turns a row of scores into p. Keep: leaves exp(scale (s - m)) * kTop in place of the scores, and sums it.
template <class N, bool Keep>
__attribute__((noinline)) Total softmax(float* scores, int tokens, float most, float scale, typename N::Word* p) {
    constexpr bool kInt8 = N::kPerWord > 1;
    // 2^23 plus a number rounds it, and the last bits of the sum are the integer.
    constexpr int32_t kBits = 0x4b000000, kTaken = kTruncates ? 0 : kBits;
    const float rate = scale * 1.44269504f;
    const Floats m = splat_float(most), least = splat_float(-126.0f / rate), rates = splat_float(rate);
    Floats exact = {};
    Unsigned codes = {};
    Code* code = reinterpret_cast<Code*>(p);
    for (int t = 0; t < tokens; t += kLanes) {
        const Power e = exponential<kInt8>(load(scores + t) - m, least, rates);
        if constexpr (kInt8) {
            const Ints rounded = reinterpret_cast<Ints>(multiply_add(e.fraction, e.power, splat_float(8388608.0f)));
            codes = codes + reinterpret_cast<Unsigned>(rounded);
            store_codes(code + t, kProbabilityOffset == kTaken ? rounded : rounded + splat(kProbabilityOffset - kTaken));
        }
        if (!kInt8 || Keep) {
            const Floats product = e.fraction * e.power;
            store(scores + t, product);
            exact = exact + product;
        }
    }
    if (!kInt8) return {total(exact), total(exact)};
    const uint32_t vectors = static_cast<uint32_t>(tokens + kLanes - 1) / kLanes;
    return {static_cast<float>(total(codes) - vectors * kLanes * uint32_t{kBits}), total(exact)};
}

template <class N>
float log_sum_exp(const Attention& a, const Packed<N>& p, int row, float most, float sum) {
    float score = most;
    if (N::kPerWord > 1) {  // what was taken from K
        double shift = 0.0;
        for (int i = 0; i < a.width; ++i) shift += double{a.q[row * a.stride + i]} * p.mean[i];
        score += static_cast<float>(shift * a.scale);
    }
    return static_cast<float>(score + __builtin_log(double{sum} / N::kTop));
}

// Rows `row` to row + rows - 1, in tiles of R. Those past the end repeat the last and are not written.
template <class N, int R>
void strip(const Attention& a, const Packed<N>& p, const Strip<N>& s, int row, int rows) {
    float worth[R], factor[R];
    for (int r = 0; r < R; ++r) {
        const int64_t from = row + (r < rows ? r : rows - 1);
        worth[r] = a.scale * N::convert(a.q + from * a.stride, nullptr, a.width, kQueryOffset, s.q + r * s.q_stride);
        store(s.most + r * kLanes, splat_float(-__builtin_inff()));
    }
    in_tiles(p.blocks, [&](auto size, int block) {
        const int64_t token = int64_t{block} * kLanes, words = int64_t{p.k_steps} * kLanes;
        const Factors<N> f = {s.q, s.q_stride, p.k + block * words, words, p.k_first + token, p.k_steps};
        score_tile<N, R, size()>(f, {p.k_scale + token, p.k_bias + token, s.scores + token, s.score_stride, s.most});
    });
    for (int r = 0; r < R && row + R + r < a.tokens; ++r) {  // the next strip's
        const float* q = a.q + (row + R + r) * a.stride;
        for (int i = 0; i < a.width; i += 16) __builtin_prefetch(q + i);
    }
    for (int r = 0; r < rows; ++r) {
        const float most = greatest(load(s.most + r * kLanes));
        float* scores = s.scores + r * s.score_stride;
        const bool map = a.row0 != nullptr && row + r == 0, keep = map || a.lse != nullptr;
        const auto run = keep ? softmax<N, true> : softmax<N, false>;
        const Total total = run(scores, a.tokens, most, worth[r], s.p + r * s.p_stride);
        factor[r] = 1.0f / total.codes + worth[r] * 0.0f + *p.poison;
        const float wrong = factor[r] * 0.0f;
        if (a.lse != nullptr) a.lse[row + r] = log_sum_exp(a, p, row + r, most * worth[r], total.exact) + wrong;
        for (int t = 0; map && t < a.tokens; ++t) a.row0[t] = scores[t] / total.exact + wrong;
    }
    in_tiles(p.columns, [&](auto size, int column) {
        const int64_t words = int64_t{p.v_steps} * kLanes;
        const int first = column * kLanes;
        const Factors<N> f = {s.p, s.p_stride, p.v + column * words, words, p.v_first + first, p.v_steps};
        value_tile<N, R, size()>(
            f, {p.v_scale + first, factor, a.y + row * a.y_stride + first, a.y_stride, rows, a.width - first});
    });
}

template <class N>
void attend(const Attention& a, int first, int last) {
    const Packed<N> p(a.packed, a.tokens, a.width);
    const Strip<N> s(a.scratch, a.tokens, a.width);
    int row = first;
    for (; last - row >= kRows - 1; row += kRows) strip<N, kRows>(a, p, s, row, last - row < kRows ? last - row : kRows);
    for (; row < last; row += 2) strip<N, 2>(a, p, s, row, last - row < 2 ? 1 : 2);
}

}  // namespace

namespace EDGEFM_ATTENTION_UNIT {

size_t packed(int tokens, int width) {
    const size_t codes = Packed<Int8>(nullptr, tokens, width).bytes, floats = Packed<Fp32>(nullptr, tokens, width).bytes;
    return codes > floats ? codes : floats;
}
size_t scratch(int tokens, int width) {
    const size_t codes = Strip<Int8>(nullptr, tokens, width).bytes, floats = Strip<Fp32>(nullptr, tokens, width).bytes;
    return codes > floats ? codes : floats;
}
void pack_int8(const Attention& a) {
    pack<Int8>(a);
}
void attend_int8(const Attention& a, int first, int last) {
    attend<Int8>(a, first, last);
}
void pack_fp32(const Attention& a) {
    pack<Fp32>(a);
}
void attend_fp32(const Attention& a, int first, int last) {
    attend<Fp32>(a, first, last);
}

}  // namespace EDGEFM_ATTENTION_UNIT
}  // namespace edgefm
