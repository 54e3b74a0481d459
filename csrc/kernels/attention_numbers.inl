// The two kinds of numbers attention runs on, each as words of 32 bits: four or two codes of int8, or one float.
// Not their products: `attention_tiles.inl`.
//
// The including unit defines, for its instruction set:
//   kLanes               words in a vector: Floats, Ints (GCC's vector types)
//   kCodes, Code         codes in a word and their type: 4 of 8 bits, or 2 of 16
//   kVectors             the most vectors of columns in a tile: what the registers hold beside 6 rows
//   kQueryOffset         added to q's codes, kProbabilityOffset to P's: where the dot unit wants the other sign
//   dot(sum, x, y)       sum + the products of x's and y's codes, exact in 32 bits
//   store_codes          a vector as codes of its lanes
//   load_part, store_part   the first lanes of a vector
//   maximum              of NaN and a number, the second
//   splat, splat_float, round (to even)
//   fused                a b + c in one rounding, and kRoundsOnce: rounding.inl
#pragma once

#include "rounding.inl"

#define EDGEFM_INLINE inline __attribute__((always_inline))

// Lanes of two vectors in a fixed order. clang has no __builtin_shuffle, and GCC before 12 has nothing else.
#ifdef __clang__
#define EDGEFM_SHUFFLE(Order, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define EDGEFM_SHUFFLE(Order, a, b, ...) __builtin_shuffle(a, b, Order{__VA_ARGS__})
#endif

namespace edgefm {
namespace {

inline Floats load(const float* p) {
    Floats v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline Ints load(const int32_t* p) {
    Ints v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, Floats v) {
    __builtin_memcpy(p, &v, sizeof v);
}
inline void store(int32_t* p, Ints v) {
    __builtin_memcpy(p, &v, sizeof v);
}
inline Floats floats(Ints v) {
    return __builtin_convertvector(v, Floats);
}
inline Floats floats(Floats v) {
    return v;
}

// All lanes put together, quarter by quarter of a vector of four.
template <class Lanes, class Two>
inline auto fold(Lanes v, Two two) {
    typedef std::remove_reference_t<decltype(v[0])> Lane;
    typedef Lane Four __attribute__((vector_size(16)));
    typedef int32_t Order __attribute__((vector_size(16)));
    Four part[kLanes / 4];
    __builtin_memcpy(part, &v, sizeof v);
    for (int i = 1; i < kLanes / 4; ++i) part[0] = two(part[0], part[i]);
    const Four pairs = two(part[0], EDGEFM_SHUFFLE(Order, part[0], part[0], 2, 3, 0, 1));
    return two(pairs, EDGEFM_SHUFFLE(Order, pairs, pairs, 1, 0, 3, 2))[0];
}
template <class Lanes>
inline auto total(Lanes v) {
    return fold(v, [](auto a, auto b) { return a + b; });
}
template <class Lanes>
inline auto greatest(Lanes v) {
    return fold(v, [](auto a, auto b) { return a > b ? a : b; });
}

inline int64_t up(int64_t value, int64_t to) {
    return (value + to - 1) / to * to;
}

// Calls work(i, count) for the vectors of a row: count is kLanes, a constant, but for the last of a width that is no multiple.
template <class Work>
EDGEFM_INLINE void vectors(int width, Work work) {
    int i = 0;
    for (; i + kLanes <= width; i += kLanes) work(i, std::integral_constant<int, kLanes>{});
    if constexpr (kLanes > 8) {  // widths are multiples of eight
        if (i < width) work(i, std::integral_constant<int, 8>{});
    }
}

// The same in groups of kVectors: calls work(i, vectors, count), where vectors is a constant too, 1 for what is left.
template <class Work>
EDGEFM_INLINE void groups(int width, Work work) {
    int i = 0;
    for (; i + kVectors * kLanes <= width; i += kVectors * kLanes) {
        work(i, std::integral_constant<int, kVectors>{}, std::integral_constant<int, kLanes>{});
    }
    for (; i + kLanes <= width; i += kLanes) {
        work(i, std::integral_constant<int, 1>{}, std::integral_constant<int, kLanes>{});
    }
    if constexpr (kLanes > 8) {
        if (i < width) work(i, std::integral_constant<int, 1>{}, std::integral_constant<int, 8>{});
    }
}

// The largest |x - minus| of a row as bits: those of infinity and NaN are the largest of all, so they are not lost.
EDGEFM_INLINE uint32_t largest(const float* x, const float* minus, int width) {
    Ints most = {};
    vectors(width, [&](int i, auto count) {
        Floats v = load_part(x + i, count);
        if (minus != nullptr) v = v - load(minus + i);
        most = maximum(most, reinterpret_cast<Ints>(v) & splat(0x7fffffff));
    });
    return static_cast<uint32_t>(greatest(most));
}

struct Scale {
    float code, back;  // x * code is rounded to a code; code * back is x
};

// Codes of -127..127. A row of zeros (or denormals) gets codes of 0; NaN or infinity in it make `back` NaN.
inline Scale scale_of(uint32_t bits) {
    float most;
    __builtin_memcpy(&most, &bits, sizeof most);
    if (bits >= 0x7f800000) return {0.0f, __builtin_nanf("")};
    if (most < 1e-30f) return {0.0f, 1.0f};
    return {127.0f / most, most / 127.0f};
}

struct Int8 {
    typedef int32_t Word;
    typedef Ints Vector;
    static constexpr int kPerWord = kCodes;

    static Ints splat_word(int32_t w) { return splat(w); }
    static Ints multiply_add(Ints x, Ints y, Ints sum) { return dot(sum, x, y); }

    // A row as codes + offset; `out` is written in whole vectors. Returns what a code is worth.
    EDGEFM_INLINE static float convert(const float* x, const float* minus, int width, int offset, int32_t* out) {
        const Scale scale = scale_of(largest(x, minus, width));
        Code* code = reinterpret_cast<Code*>(out);
        const Floats factor = splat_float(scale.code);
        vectors(width, [&](int i, auto count) {
            Floats v = load_part(x + i, count);
            if (minus != nullptr) v = v - load(minus + i);
            store_codes(code + i, round(v * factor) + splat(offset));
        });
        return scale.back;
    }
};

struct Fp32 {
    typedef float Word;
    typedef Floats Vector;
    static constexpr int kPerWord = 1;

    static Floats splat_word(float w) { return splat_float(w); }
    static Floats multiply_add(Floats x, Floats y, Floats sum) { return edgefm::multiply_add(x, y, sum); }

    static float convert(const float* x, const float*, int width, int, float* out) {
        vectors(width, [&](int i, auto count) { store(out + i, load_part(x + i, count)); });
        return 1.0f;
    }
};

// Up to four vectors by name: GCC 12 keeps arrays of them in memory.
template <class N>
struct Row {
    typename N::Vector a, b, c, d;
};

}  // namespace
}  // namespace edgefm
