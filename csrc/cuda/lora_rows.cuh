// LoRA linear for up to eight rows of x: one warp sums one or two outputs in fp32, no matrix instructions (memory-bound).
// Not for images' tokens: see lora_tiles.cuh.

#pragma once

#include "lora_linear.h"
#include "weights.cuh"

namespace edgefm {

constexpr int ROWS_WARPS = 4;    // warps of a block
constexpr int ROWS_OUTPUTS = 2;  // outputs of a warp
constexpr int ROWS_VALUES = 16;  // values of W that a lane takes at once: within one absmax

__device__ inline float activated(float value, Activation activation) {
    if (activation == Activation::gelu) return 0.5f * value * (1.0f + erff(value * 0.7071067811865476f));
    if (activation == Activation::silu) return value / (1.0f + expf(-value));
    return value;
}

template <typename T>
__device__ inline void load_floats(const T* from, float (&to)[ROWS_VALUES]) {
    const uint4* wide = reinterpret_cast<const uint4*>(from);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint4 bits = wide[i];
        unpack<T>(bits.x, to[8 * i], to[8 * i + 1]);
        unpack<T>(bits.y, to[8 * i + 2], to[8 * i + 3]);
        unpack<T>(bits.z, to[8 * i + 4], to[8 * i + 5]);
        unpack<T>(bits.w, to[8 * i + 6], to[8 * i + 7]);
    }
}

// t [M, rank] fp32 = x A^T; one warp per row of A.
template <typename T, int M>
__global__ void __launch_bounds__(32 * ROWS_WARPS) lora_down_rows(LoraLinear p) {
    let_next_begin();
    const int lane = threadIdx.x % 32;
    const int row = blockIdx.x * ROWS_WARPS + threadIdx.x / 32;
    const T* a = static_cast<const T*>(p.a) + static_cast<int64_t>(min(row, p.rank - 1)) * p.inner;
    const T* x = static_cast<const T*>(p.x);
    float sum[M] = {};
#pragma unroll 2
    for (int k = lane * ROWS_VALUES; k < p.inner; k += 32 * ROWS_VALUES) {
        float left[ROWS_VALUES], right[ROWS_VALUES];
        load_floats(a + k, left);
#pragma unroll
        for (int m = 0; m < M; ++m) {
            load_floats(x + static_cast<int64_t>(min(m, p.rows - 1)) * p.inner + k, right);
#pragma unroll
            for (int i = 0; i < ROWS_VALUES; ++i) sum[m] = fmaf(left[i], right[i], sum[m]);
        }
    }
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2) sum[m] += shuffle_xor(sum[m], mask);
        if (lane == 0 && row < p.rank && m < p.rows) static_cast<float*>(p.down)[m * p.rank + row] = sum[m];
    }
}

// Sixteen values of one row of W as stored, and what they are multiplied with.
template <Weight W>
struct Stored {
    uint4 bits;
    float absmax;
    uint32_t quantized;
};

template <Weight W>
__device__ inline Stored<W> load_stored(const LoraLinear& p, int64_t first) {
    Stored<W> stored = {};
    if constexpr (W == Weight::nf4) {
        const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(p.weight) + first / 2);
        stored.bits = make_uint4(bits.x, bits.y, 0, 0);
        const int64_t block = first / 64;
        if (p.absmax.plain != nullptr) {
            stored.absmax = p.absmax.plain[block];
        } else {
            stored.quantized = p.absmax.quantized[block];
            stored.absmax = p.absmax.nested_absmax[block >> 8];
        }
    } else {
        stored.bits = *reinterpret_cast<const uint4*>(static_cast<const int8_t*>(p.weight) + first);
    }
    return stored;
}

template <Weight W>
__device__ inline void to_floats(const Stored<W>& stored, const float* code, float (&to)[ROWS_VALUES]) {
    const uint32_t words[4] = {stored.bits.x, stored.bits.y, stored.bits.z, stored.bits.w};
    if constexpr (W == Weight::nf4) {
#pragma unroll
        for (int i = 0; i < ROWS_VALUES; ++i) to[i] = code[words[i / 8] >> (8 * (i / 2 % 4) + (i % 2 ? 0 : 4)) & 15];
    } else {
#pragma unroll
        for (int i = 0; i < ROWS_VALUES; ++i) to[i] = static_cast<float>(static_cast<int8_t>(words[i / 4] >> (8 * (i % 4))));
    }
}

// y [rows, outer]; M is at least rows.
template <typename T, Weight W, int M>
__global__ void __launch_bounds__(32 * ROWS_WARPS) lora_rows(LoraLinear p) {
    __shared__ float code[16];  // sixteen values in sixteen banks: look-ups never collide
    __shared__ float nested_code[256];
    const int lane = threadIdx.x % 32;
    const int first = (blockIdx.x * ROWS_WARPS + threadIdx.x / 32) * ROWS_OUTPUTS;
    int64_t row[ROWS_OUTPUTS];  // where the row of W begins; past the end the last row again
#pragma unroll
    for (int n = 0; n < ROWS_OUTPUTS; ++n) row[n] = static_cast<int64_t>(min(first + n, p.outer - 1)) * p.inner;

    int k = lane * ROWS_VALUES;
    Stored<W> stored[ROWS_OUTPUTS];
#pragma unroll
    for (int n = 0; n < ROWS_OUTPUTS; ++n) stored[n] = load_stored<W>(p, row[n] + min(k, p.inner - ROWS_VALUES));

    const bool nested = W == Weight::nf4 && p.absmax.plain == nullptr;
    const float offset = nested ? *p.absmax.offset : 0.0f;
    if constexpr (W == Weight::nf4) {
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            if (static_cast<int>(threadIdx.x) == i) code[i] = nf4_code(i);  // a table indexed by the thread would lie on the stack
        }
        if (nested) {
            for (int i = threadIdx.x; i < 256; i += 32 * ROWS_WARPS) nested_code[i] = p.absmax.nested_code[i];
        }
        __syncthreads();
    }

    float sum[ROWS_OUTPUTS][M] = {};
    const T* x = static_cast<const T*>(p.x);
    while (k < p.inner) {
        const int next = k + 32 * ROWS_VALUES;
        Stored<W> coming[ROWS_OUTPUTS];
#pragma unroll
        for (int n = 0; n < ROWS_OUTPUTS; ++n) coming[n] = load_stored<W>(p, row[n] + min(next, p.inner - ROWS_VALUES));

        float values[ROWS_OUTPUTS][ROWS_VALUES], absmax[ROWS_OUTPUTS];
#pragma unroll
        for (int n = 0; n < ROWS_OUTPUTS; ++n) {
            to_floats<W>(stored[n], code, values[n]);
            absmax[n] = nested ? nested_code[stored[n].quantized] * stored[n].absmax + offset : stored[n].absmax;
        }
#pragma unroll
        for (int m = 0; m < M; ++m) {
            float right[ROWS_VALUES];
            load_floats(x + static_cast<int64_t>(min(m, p.rows - 1)) * p.inner + k, right);
#pragma unroll
            for (int n = 0; n < ROWS_OUTPUTS; ++n) {
                float part = 0.0f;
#pragma unroll
                for (int i = 0; i < ROWS_VALUES; ++i) part = fmaf(values[n][i], right[i], part);
                if constexpr (W == Weight::nf4) {
                    sum[n][m] = fmaf(part, absmax[n], sum[n][m]);
                } else {
                    sum[n][m] += part;
                }
            }
        }
#pragma unroll
        for (int n = 0; n < ROWS_OUTPUTS; ++n) stored[n] = coming[n];
        k = next;
    }

    wait_for_previous();  // t is there
    let_next_begin();
#pragma unroll
    for (int n = 0; n < ROWS_OUTPUTS; ++n) {
        const int output = min(first + n, p.outer - 1);
        const float scale = W == Weight::int8 ? p.row_scale[output] : 1.0f;
        const T* b = static_cast<const T*>(p.b) + static_cast<int64_t>(output) * p.rank;
#pragma unroll
        for (int m = 0; m < M; ++m) {
            const float* t = static_cast<const float*>(p.down) + min(m, p.rows - 1) * p.rank;
            float low_rank = 0.0f;
            for (int j = lane; j < p.rank; j += 32) low_rank = fmaf(t[j], to_float(b[j]), low_rank);
            float value = sum[n][m] * scale + p.scale * low_rank;
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
            if (lane == 0 && first + n < p.outer && m < p.rows) {
                if (p.bias != nullptr) value += to_float(static_cast<const T*>(p.bias)[output]);
                const int64_t at = static_cast<int64_t>(m) * p.outer + output;
                static_cast<T*>(p.y)[at] = from_float<T>(activated(value, p.activation));
            }
        }
    }
}

}  // namespace edgefm
