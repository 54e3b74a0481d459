// K and V of one head as the tiles read them, once per head.
//
//     K   word[token / kLanes][step][token % kLanes]     step: kPerWord values of the width
//     V   word[column / kLanes][step][column % kLanes]   step: kPerWord tokens
//
// Of each kCodes * kLanes tokens, step i holds the tokens i, kLanes + i and so on, as P's codes come out of vectors of scores;
// of what is left, tokens that follow one another.
//
// int8: K without its mean over the tokens, which adds the same to all scores of a row and so is nothing to softmax
// (smooth-K: Zhang et al., SageAttention, 2024); a scale per token. V has a scale per channel.
#pragma once

#include "attention_numbers.inl"

namespace edgefm {
namespace {

constexpr int kMaxWidth = 128;
constexpr int kRows = 6;

template <class N>
struct Packed {
    typedef typename N::Word Word;
    int k_steps, v_steps, blocks, columns;  // columns: vectors of the width
    Word *k, *k_first, *v, *v_first;
    float *k_scale, *k_bias, *v_scale, *mean, *poison;
    size_t bytes;

    Packed(uint8_t* base, int tokens, int width)
        : k_steps(width / N::kPerWord),
          v_steps((tokens + N::kPerWord - 1) / N::kPerWord),
          blocks((tokens + kLanes - 1) / kLanes),
          columns((width + kLanes - 1) / kLanes) {
        uintptr_t next = reinterpret_cast<uintptr_t>(base);  // base is null where only the size is asked for
        const auto take = [&next](auto*& part, int64_t words) {
            part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(next);
            next += up(4 * words, 64);
        };
        const int64_t padded = int64_t{blocks} * kLanes;
        take(k, padded * k_steps);
        take(k_first, padded);
        take(k_scale, padded);
        take(k_bias, padded);
        take(v, int64_t{columns} * kLanes * v_steps);
        take(v_first, columns * kLanes);
        take(v_scale, columns * kLanes);
        take(mean, columns * kLanes);
        take(poison, 1);
        bytes = next - reinterpret_cast<uintptr_t>(base);
    }
};

// one(vector, i) for the first C vectors of a row.
template <int C, class N, class One>
EDGEFM_INLINE void each(Row<N>& row, One one) {
    one(row.a, 0);
    if constexpr (C > 1) one(row.b, 1);
    if constexpr (C > 2) one(row.c, 2);
    if constexpr (C > 3) one(row.d, 3);
}

// The mean of each column over the tokens, in four interleaved sums: the same bits on every instruction set.
inline void mean_over_tokens(const Attention& a, float* mean) {
    groups(a.width, [&](int first, auto vectors, auto count) {
        constexpr int C = vectors();
        Row<Fp32> s0 = {}, s1 = {}, s2 = {}, s3 = {};
        const float* k = a.k + first;
        const auto add = [&](Row<Fp32>& sum, const float* row) {
            each<C>(sum, [&](Floats& one, int i) { one = one + load_part(row + i * kLanes, count); });
        };
        int t = 0;
        for (; t + 4 <= a.tokens; t += 4, k += 4 * a.stride) {
            add(s0, k);
            add(s1, k + a.stride);
            add(s2, k + 2 * a.stride);
            add(s3, k + 3 * a.stride);
        }
        for (; t < a.tokens; ++t, k += a.stride) add(s0, k);
        const Floats tokens = splat_float(static_cast<float>(a.tokens));
        store(mean + first, ((s0.a + s1.a) + (s2.a + s3.a)) / tokens);
        if constexpr (C > 1) store(mean + first + kLanes, ((s0.b + s1.b) + (s2.b + s3.b)) / tokens);
        if constexpr (C > 2) store(mean + first + 2 * kLanes, ((s0.c + s1.c) + (s2.c + s3.c)) / tokens);
        if constexpr (C > 3) store(mean + first + 3 * kLanes, ((s0.d + s1.d) + (s2.d + s3.d)) / tokens);
    });
}

// out[step * kLanes + lane] = rows[lane * stride + step], words of 32 bits, four by four.
inline void transpose(const void* rows, int stride, int steps, void* out) {
    typedef int32_t Four __attribute__((vector_size(16)));
    const int32_t* in = static_cast<const int32_t*>(rows);
    int32_t* to = static_cast<int32_t*>(out);
    for (int step = 0; step < steps; step += 4) {
        for (int lane = 0; lane < kLanes; lane += 4) {
            const int32_t* from = in + lane * stride + step;
            Four a, b, c, d;
            __builtin_memcpy(&a, from, 16);
            __builtin_memcpy(&b, from + stride, 16);
            __builtin_memcpy(&c, from + 2 * stride, 16);
            __builtin_memcpy(&d, from + 3 * stride, 16);
            const Four ab = EDGEFM_SHUFFLE(Four, a, b, 0, 4, 1, 5), cd = EDGEFM_SHUFFLE(Four, c, d, 0, 4, 1, 5);
            const Four ab2 = EDGEFM_SHUFFLE(Four, a, b, 2, 6, 3, 7), cd2 = EDGEFM_SHUFFLE(Four, c, d, 2, 6, 3, 7);
            const Four turned[4] = {EDGEFM_SHUFFLE(Four, ab, cd, 0, 1, 4, 5), EDGEFM_SHUFFLE(Four, ab, cd, 2, 3, 6, 7),
                                    EDGEFM_SHUFFLE(Four, ab2, cd2, 0, 1, 4, 5), EDGEFM_SHUFFLE(Four, ab2, cd2, 2, 3, 6, 7)};
            for (int i = 0; i < 4 && step + i < steps; ++i) __builtin_memcpy(to + (step + i) * kLanes + lane, &turned[i], 16);
        }
    }
}

template <class N>
void pack_keys(const Attention& a, const Packed<N>& p) {
    constexpr bool kInt8 = N::kPerWord > 1;
    alignas(64) typename N::Word rows[kLanes * kMaxWidth / N::kPerWord] = {};
    const int stride = static_cast<int>(up(a.width, 16)) / N::kPerWord;
    if (kInt8) mean_over_tokens(a, p.mean);
    float poison = 0.0f;
    for (int block = 0; block < p.blocks; ++block) {
        const int64_t token = int64_t{block} * kLanes;
        const int live = a.tokens - token < kLanes ? static_cast<int>(a.tokens - token) : kLanes;
        if (live < kLanes) __builtin_memset(rows, 0, sizeof rows);
        for (int i = 0; i < kLanes; ++i) {
            p.k_scale[token + i] = 0.0f;
            p.k_bias[token + i] = i < live ? 0.0f : -__builtin_inff();
            if (i >= live) continue;
            const float scale =
                N::convert(a.k + (token + i) * a.stride, kInt8 ? p.mean : nullptr, a.width, 0, rows + i * stride);
            poison += scale * 0.0f;
            p.k_scale[token + i] = scale;
        }
        typename N::Word* words = p.k + token * p.k_steps;
        transpose(rows, stride, p.k_steps, words);
        typename N::Vector first = {};
        if constexpr (kInt8 && kQueryOffset != 0) {
            for (int step = 0; step < p.k_steps; ++step) first = dot(first, splat(kOnes), load(words + step * kLanes));
            first = first * splat(-kQueryOffset);
        }
        store(p.k_first + token, first);
    }
    *p.poison = poison;
}

inline void pack_values(const Attention& a, const Packed<Fp32>& p) {
    for (int c = 0; c < p.columns; ++c) {
        const int wanted = a.width - c * kLanes;
        float* words = p.v + int64_t{c} * p.v_steps * kLanes;
        for (int t = 0; t < a.tokens; ++t) store(words + t * kLanes, load_part(a.v + t * a.stride + c * kLanes, wanted));
        store(p.v_scale + c * kLanes, splat_float(1.0f));
        store(p.v_first + c * kLanes, splat_float(0.0f));
    }
}

// Codes of kCodes tokens `apart`, side by side in a word; those from `live` on are 0.
template <class Count>
EDGEFM_INLINE Ints word_of(const float* v, int64_t apart, Floats factor, int live, Count count) {
    const auto code = [&](int i) { return i < live ? round(load_part(v + i * apart, count) * factor) : Ints{}; };
    if constexpr (kCodes == 4) {
        const Ints low = splat(255);
        return (code(0) & low) | ((code(1) & low) << 8) | ((code(2) & low) << 16) | (code(3) << 24);
    } else {
        return (code(0) & splat(0xffff)) | (code(1) << 16);
    }
}

// C vectors of columns: the largest of each column, then the codes.
template <int C, class Count>
EDGEFM_INLINE void pack_columns(const Attention& a, const Packed<Int8>& p, int first, Count count) {
    const float* v = a.v + first;
    Row<Int8> most = {};
    for (int t = 0; t < a.tokens; ++t, v += a.stride) {
        each<C>(most, [&](Ints& one, int i) {
            one = maximum(one, reinterpret_cast<Ints>(load_part(v + i * kLanes, count)) & splat(0x7fffffff));
        });
    }
    Row<Fp32> factor;
    each<C>(most, [&](Ints one, int i) {
        float codes[kLanes], back[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) {
            const Scale scale = scale_of(static_cast<uint32_t>(one[lane]));
            codes[lane] = scale.code;
            back[lane] = scale.back;
        }
        store(p.v_scale + first + i * kLanes, load(back));
        (i == 0 ? factor.a : i == 1 ? factor.b : i == 2 ? factor.c : factor.d) = load(codes);
    });
    v = a.v + first;
    int32_t* words = p.v + int64_t{first} * p.v_steps;
    const int64_t apart = int64_t{p.v_steps} * kLanes;
    Row<Int8> sum = {};
    const auto step = [&](int64_t tokens_apart, auto live) {
        each<C>(factor, [&](Floats one, int i) {
            const Ints word = word_of(v + i * kLanes, tokens_apart, one, live, count);
            store(words + i * apart, word);
            if constexpr (kProbabilityOffset != 0) {
                Ints& total = i == 0 ? sum.a : i == 1 ? sum.b : i == 2 ? sum.c : sum.d;
                total = dot(total, splat(kOnes), word);
            }
        });
        words += kLanes;
    };
    constexpr std::integral_constant<int, kCodes> all{};
    int t = 0;
    for (; t + kCodes * kLanes <= a.tokens; t += kCodes * kLanes, v += (kCodes - 1) * kLanes * a.stride) {
        for (int i = 0; i < kLanes; ++i, v += a.stride) step(kLanes * a.stride, all);
    }
    for (; t + kCodes <= a.tokens; t += kCodes, v += kCodes * a.stride) step(a.stride, all);
    if (t < a.tokens) step(a.stride, a.tokens - t);
    each<C>(sum, [&](Ints one, int i) { store(p.v_first + first + i * kLanes, one * splat(-kProbabilityOffset)); });
}

inline void pack_values(const Attention& a, const Packed<Int8>& p) {
    groups(a.width, [&](int first, auto vectors, auto count) { pack_columns<vectors()>(a, p, first, count); });
}

template <class N>
void pack(const Attention& a) {
    const Packed<N> p(a.packed, a.tokens, a.width);
    pack_keys(a, p);
    pack_values(a, p);
}

}  // namespace
}  // namespace edgefm
