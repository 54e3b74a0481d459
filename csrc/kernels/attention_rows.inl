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

// Codes that still carry kCodeBits, one of each vector side by side: the shifts leave nothing of kCodeBits, nor does the mask.
EDGEFM_INLINE Ints word_of_codes(const float* scores, const CodeRates& rates) {
    const auto code = [&](int i) { return code_of(load(scores + i * kLanes), rates); };
    if constexpr (kCodes == 4) {
        return (code(0) & splat(255)) | (code(1) << 8) | (code(2) << 16) | (code(3) << 24);
    } else {
        return (code(0) & splat(255)) | (code(1) << 16);
    }
}

// Turns a row of scores into the codes of P, and returns their sum. Tokens lie in the words as V's do (attention_pack.inl).
__attribute__((noinline)) float to_codes(const float* scores, int tokens, float most, float rate, int32_t* words) {
    const CodeRates rates(most, rate);
    Ints sum = {};
    int t = 0;
    for (; t + kCodes * kLanes <= tokens; t += kCodes * kLanes, words += kLanes) {
        Ints word = word_of_codes(scores + t, rates);
        if constexpr (kProbabilityOffset != 0) word = word ^ splat(static_cast<int32_t>(0x80808080));  // 128 lower, as s8
        sum = dot(sum, word, splat(kOnes));
        store(words, word);
    }
    const int shifted = kProbabilityOffset * t;
    Code* code = reinterpret_cast<Code*>(words);
    for (; t < tokens; t += kLanes, code += kLanes) {
        const Ints one = code_of(load(scores + t), rates) & splat(255);
        sum = sum + one;
        store_codes(code, one + splat(kProbabilityOffset));
    }
    return static_cast<float>(total(sum) - shifted);
}

// Leaves exp(scale (s - m)) in place of the scores, and returns the sum.
__attribute__((noinline)) float to_exponentials(float* scores, int tokens, float most, float rate) {
    const Floats m = splat_float(most), least = splat_float(-126.0f / rate), rates = splat_float(rate);
    Floats sum = {};
    for (int t = 0; t < tokens; t += kLanes) {
        const Floats e = exponential(load(scores + t) - m, least, rates);
        store(scores + t, e);
        sum = sum + e;
    }
    return total(sum);
}

template <class N>
float log_sum_exp(const Attention& a, const Packed<N>& p, int row, float most, float sum) {
    float score = most;
    if (N::kPerWord > 1) {  // what was taken from K
        double shift = 0.0;
        for (int i = 0; i < a.width; ++i) shift += double{a.q[row * a.stride + i]} * p.mean[i];
        score += static_cast<float>(shift * a.scale);
    }
    return static_cast<float>(score + __builtin_log(double{sum}));
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
        const Factors<N> f = {s.q, s.q_stride, p.k + block * words, words, p.k_first + token, p.k_steps, size() * words};
        score_tile<N, R, size()>(f, {p.k_scale + token, p.k_bias + token, s.scores + token, s.score_stride, s.most});
    });
    for (int r = 0; r < R && row + R + r < a.tokens; ++r) {  // the next strip's
        const float* q = a.q + (row + R + r) * a.stride;
        for (int i = 0; i < a.width; i += 16) __builtin_prefetch(q + i);
    }
    for (int r = 0; r < rows; ++r) {
        float* scores = s.scores + r * s.score_stride;
        const float most = greatest(load(s.most + r * kLanes)), rate = worth[r] * 1.44269504f;
        const bool map = a.row0 != nullptr && row + r == 0, keep = map || a.lse != nullptr;
        float base = most, sum = 0.0f, exact = 0.0f;
        if constexpr (N::kPerWord > 1) {
            if (most * rate > kLargestTop || most * rate < -kLargestTop) {
                for (int t = 0; t < a.tokens; t += kLanes) store(scores + t, load(scores + t) - splat_float(most));
                base = 0.0f;
            }
            sum = to_codes(scores, a.tokens, base, rate, s.p + r * s.p_stride);
            if (keep) exact = to_exponentials(scores, a.tokens, base, rate);
        } else {
            sum = exact = to_exponentials(scores, a.tokens, base, rate);
        }
        factor[r] = 1.0f / sum + worth[r] * 0.0f + *p.poison;
        const float wrong = factor[r] * 0.0f;
        if (a.lse != nullptr) a.lse[row + r] = log_sum_exp(a, p, row + r, most * worth[r], exact) + wrong;
        for (int t = 0; map && t < a.tokens; ++t) a.row0[t] = scores[t] / exact + wrong;
    }
    in_tiles(p.columns, [&](auto size, int column) {
        const int64_t words = int64_t{p.v_steps} * kLanes;
        const int first = column * kLanes;
        const Factors<N> f = {s.p, s.p_stride, p.v + column * words, words, p.v_first + first, p.v_steps, 16 * kLanes};
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

size_t packed(int tokens, int width, bool int8) {
    return int8 ? Packed<Int8>(nullptr, tokens, width).bytes : Packed<Fp32>(nullptr, tokens, width).bytes;
}
size_t scratch(int tokens, int width, bool int8) {
    return int8 ? Strip<Int8>(nullptr, tokens, width).bytes : Strip<Fp32>(nullptr, tokens, width).bytes;
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
