// How the frozen weights are stored, and back into 16-bit pairs in registers. No kernel.
//
// NF4 (Dettmers et al. 2023, QLoRA; the storage is bitsandbytes' own): two values a byte, the first in the high half;
//     W_i = CODE[q_i] * absmax[i / 64], absmax fp32, or doubly quantized:
//     absmax_j = nested_code[u8_j] * nested_absmax[j / 256] + offset.
// int8: W_i = q_i * scale[row].

#pragma once

#include "absmax.h"
#include "warp.cuh"

namespace edgefm {

// NormalFloat4's sixteen values (QLoRA, appendix E).
__host__ __device__ constexpr float nf4_code(int index) {
    constexpr float code[16] = {-1.0f,
                                -0.6961928009986877f,
                                -0.5250730514526367f,
                                -0.39491748809814453f,
                                -0.28444138169288635f,
                                -0.18477343022823334f,
                                -0.09105003625154495f,
                                0.0f,
                                0.07958029955625534f,
                                0.16093020141124725f,
                                0.24611230194568634f,
                                0.33791524171829224f,
                                0.44070982933044434f,
                                0.5626170039176941f,
                                0.7229568362236023f,
                                1.0f};
    return code[index];
}

// The same as bits of T. A few (three in fp16, three in bf16) are rounded to the other side, so that over normal weights the
// errors cancel: rounded to nearest their mean is 4.6e-4 in bf16, which inputs of one sign (after GELU) would add up.
template <typename T>
__host__ __device__ constexpr uint32_t nf4_bits(int index);
template <>
__host__ __device__ constexpr uint32_t nf4_bits<__half>(int index) {
    constexpr uint16_t bits[16] = {0xbc00, 0xb992, 0xb833, 0xb652, 0xb48d, 0xb1e9, 0xadd3, 0x0000,
                                   0x2d17, 0x3126, 0x33e0, 0x3568, 0x370d, 0x3880, 0x39c9, 0x3c00};
    return bits[index];
}
template <>
__host__ __device__ constexpr uint32_t nf4_bits<__nv_bfloat16>(int index) {
    constexpr uint16_t bits[16] = {0xbf80, 0xbf33, 0xbf06, 0xbeca, 0xbe92, 0xbe3e, 0xbdba, 0x0000,
                                   0x3da3, 0x3e25, 0x3e7d, 0x3ead, 0x3ee2, 0x3f10, 0x3f39, 0x3f80};
    return bits[index];
}

// Byte `plane` (0 low, 1 high) of four neighbouring codes in one register.
template <typename T>
__host__ __device__ constexpr uint32_t nf4_plane(int first, int plane) {
    return (nf4_bits<T>(first) >> (8 * plane) & 255) | (nf4_bits<T>(first + 1) >> (8 * plane) & 255) << 8 |
           (nf4_bits<T>(first + 2) >> (8 * plane) & 255) << 16 | (nf4_bits<T>(first + 3) >> (8 * plane) & 255) << 24;
}

// Four bytes of a table of sixteen, by the low four nibbles of an index; `upper` has byte 255 where the nibble is 8 or more.
template <typename T, int PLANE>
__device__ inline uint32_t nf4_look_up(uint32_t low_three_bits, uint32_t upper) {
    const uint32_t below = permute(nf4_plane<T>(0, PLANE), nf4_plane<T>(4, PLANE), low_three_bits);
    const uint32_t above = permute(nf4_plane<T>(8, PLANE), nf4_plane<T>(12, PLANE), low_three_bits);
    return (above & upper) | (below & ~upper);
}

// Eight codes (four bytes as stored) as four pairs of T, in order.
template <typename T>
__device__ inline void nf4_pairs(uint32_t stored, uint32_t (&to)[4]) {
    const uint32_t three_bits = stored & 0x77777777u;
    const uint32_t fourth_bit = stored >> 3 & 0x11111111u;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const uint32_t selector = three_bits >> (16 * half) & 0xffffu;
        const uint32_t upper = permute(0x0000ff00u, 0, fourth_bit >> (16 * half) & 0xffffu);
        const uint32_t low = nf4_look_up<T, 0>(selector, upper);
        const uint32_t high = nf4_look_up<T, 1>(selector, upper);
        // A byte's high nibble comes first: the bytes found are those of elements 1, 0, 3, 2.
        to[2 * half] = permute(low, high, 0x4051);
        to[2 * half + 1] = permute(low, high, 0x6273);
    }
}

// Four int8 as two pairs of T, exactly.
template <typename T>
__device__ inline void int8_pairs(uint32_t stored, uint32_t (&to)[2]) {
    const uint32_t shifted = stored ^ 0x80808080u;  // q + 128, unsigned
    float values[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        union {
            uint32_t bits;
            float value;
        } word = {permute(shifted, 0x4b000000u, 0x7440u | i)};  // 2^23 + q + 128
        values[i] = word.value - 8388736.0f;
    }
    to[0] = pack<T>(from_float<T>(values[0]), from_float<T>(values[1]));
    to[1] = pack<T>(from_float<T>(values[2]), from_float<T>(values[3]));
}

__device__ inline float decode(const Absmax& absmax, const float* nested_code, float offset, int64_t block) {
    if (absmax.plain != nullptr) return absmax.plain[block];
    return nested_code[absmax.quantized[block]] * absmax.nested_absmax[block >> 8] + offset;
}

}  // namespace edgefm
