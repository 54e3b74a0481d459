// Attention with a bias as one kernel: online softmax (Milakov and Gimelshein 2018), tiled as in FlashAttention-2 (Dao 2023).
// No gradient, no dropout, no attention map. A row whose scores are all -inf gives zeros, as torch's
// scaled_dot_product_attention.

#include <cmath>

#include "attention.h"
#include "launch.cuh"
#include "warp.cuh"

namespace edgefm {

namespace {

constexpr float LOG2_E = 1.4426950408889634f;

// Keys at a time: so that two stages of keys and values stay within 48 KiB.
constexpr int keys_at_once(int head_size) {
    return head_size > 80 ? 32 : 64;
}

// Rows are eight elements longer than they need be: eight rows then begin in eight different groups of four banks.
template <int D>
struct KeyStage {
    static constexpr int KEYS = keys_at_once(D), PITCH = D + 8;
};

template <typename T, int D, int WARPS>
__device__ inline void fetch(T* to, const T* from, int64_t stride, int first, int tokens) {
    constexpr int CHUNKS = D / 8, ALL = KeyStage<D>::KEYS * CHUNKS;
    for (int at = threadIdx.x; at < ALL; at += 32 * WARPS) {
        const int row = at / CHUNKS, chunk = at % CHUNKS;
        const int token = min(first + row, tokens - 1);
        copy_async<16>(to + row * KeyStage<D>::PITCH + 8 * chunk, from + token * stride + 8 * chunk, first + row < tokens);
    }
}

template <typename T>
__device__ inline float bias_at(const Attention& p, const char* row, int column) {
    return p.bias_fp32 ? reinterpret_cast<const float*>(row)[column] : to_float(reinterpret_cast<const T*>(row)[column]);
}

// Block (x, y, z): 16 WARPS queries, head, image; each warp 16 queries.
template <typename T, int D, int WARPS>
__global__ void __launch_bounds__(32 * WARPS) attention_kernel(Attention p) {
    constexpr int KEYS = KeyStage<D>::KEYS, PITCH = KeyStage<D>::PITCH;
    __shared__ __align__(16) T keys[2][KEYS * PITCH];
    __shared__ __align__(16) T values[2][KEYS * PITCH];
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int query = (blockIdx.x * WARPS + threadIdx.x / 32) * 16 + g;  // and query + 8
    const int upper = min(query, p.tokens - 1), lower = min(query + 8, p.tokens - 1);
    const T* k = static_cast<const T*>(p.k.data) + blockIdx.z * p.k.batch + blockIdx.y * p.k.head;
    const T* v = static_cast<const T*>(p.v.data) + blockIdx.z * p.v.batch + blockIdx.y * p.v.head;
    fetch<T, D, WARPS>(keys[0], k, p.k.token, 0, p.tokens);
    fetch<T, D, WARPS>(values[0], v, p.v.token, 0, p.tokens);
    copies_commit();

    uint32_t q[D / 16][4];
    const T* from = static_cast<const T*>(p.q.data) + blockIdx.z * p.q.batch + blockIdx.y * p.q.head + 2 * t;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const T* pair = from + (j % 2 ? lower : upper) * p.q.token + 16 * i + 8 * (j / 2);
            q[i][j] = *reinterpret_cast<const uint32_t*>(pair);
        }
    }
    const bool biased = p.bias.data != nullptr;
    const int64_t width = p.bias_fp32 ? 4 : 2;
    const char* bias = static_cast<const char*>(p.bias.data) + width * (blockIdx.z * p.bias.batch + blockIdx.y * p.bias.head);
    const char* bias_rows[2] = {bias + width * upper * p.bias.token, bias + width * lower * p.bias.token};

    const float scale = p.scale * LOG2_E;
    float out[D / 8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int first = 0, stage = 0; first < p.tokens; first += KEYS, stage ^= 1) {
        if (first + KEYS < p.tokens) {
            fetch<T, D, WARPS>(keys[stage ^ 1], k, p.k.token, first + KEYS, p.tokens);
            fetch<T, D, WARPS>(values[stage ^ 1], v, p.v.token, first + KEYS, p.tokens);
        }
        copies_commit();
        float score[KEYS / 8][4] = {};  // the bias first, so that it travels while the copies do
        if (biased) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int column = min(first + 8 * n + 2 * t + i % 2, p.tokens - 1);
                    score[n][i] = bias_at<T>(p, bias_rows[i / 2], column) * LOG2_E;
                }
            }
        }
        copies_wait<1>();
        __syncthreads();

        // Two tiles of eight keys at a time: matrices (keys 0-7, columns 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15).
        const T* key_row = keys[stage] + ((lane & 7) + (lane >> 4) * 8) * PITCH + (lane >> 3 & 1) * 8;
#pragma unroll
        for (int n = 0; n < KEYS / 16; ++n) {
            float product[2][4] = {};
#pragma unroll
            for (int i = 0; i < D / 16; ++i) {
                uint32_t b[4];
                ldmatrix(b, key_row + 16 * n * PITCH + 16 * i);
                mma<T>(product[0], q[i], b[0], b[1]);
                mma<T>(product[1], q[i], b[2], b[3]);
            }
#pragma unroll
            for (int j = 0; j < 2; ++j) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float& s = score[2 * n + j][i];
                    s = first + 16 * n + 8 * j + 2 * t + i % 2 < p.tokens ? fmaf(product[j][i], scale, s) : -INFINITY;
                }
            }
        }

        // The four threads of a row know its maximum; a row of nothing but -inf stays at 0 instead of NaN.
        float base[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float highest = maximum[r];
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) highest = fmaxf(highest, fmaxf(score[n][2 * r], score[n][2 * r + 1]));
            highest = fmaxf(highest, shuffle_xor(highest, 1));
            highest = fmaxf(highest, shuffle_xor(highest, 2));
            base[r] = highest == -INFINITY ? 0.0f : highest;
            const float shrink = exp2f(maximum[r] - base[r]);
            maximum[r] = highest;
            sum[r] *= shrink;
#pragma unroll
            for (int d = 0; d < D / 8; ++d) {
                out[d][2 * r] *= shrink;
                out[d][2 * r + 1] *= shrink;
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                score[n][i] = exp2f(score[n][i] - base[i / 2]);
                sum[i / 2] += score[n][i];
            }
        }

        // Scores lie as the sums of a product, which is how the left side of the next wants them.
        const T* value_row = values[stage] + (lane & 15) * PITCH + (lane >> 4) * 8;
#pragma unroll
        for (int n = 0; n < KEYS / 16; ++n) {
            uint32_t left[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float* pair = &score[2 * n + j / 2][2 * (j % 2)];
                left[j] = pack<T>(from_float<T>(pair[0]), from_float<T>(pair[1]));
            }
#pragma unroll
            for (int d = 0; d < D / 16; ++d) {
                uint32_t b[4];
                ldmatrix_transposed(b, value_row + 16 * n * PITCH + 16 * d);
                mma<T>(out[2 * d], left, b[0], b[1]);
                mma<T>(out[2 * d + 1], left, b[2], b[3]);
            }
        }
        __syncthreads();  // the next copies overwrite this stage
    }

    T* to = static_cast<T*>(const_cast<void*>(p.out.data)) + blockIdx.z * p.out.batch + blockIdx.y * p.out.head + 2 * t;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float total = sum[r];
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
        const float weight = total == 0.0f ? 0.0f : 1.0f / total;
        if (query + 8 * r >= p.tokens) continue;
#pragma unroll
        for (int d = 0; d < D / 8; ++d) {
            const uint32_t pair = pack<T>(from_float<T>(out[d][2 * r] * weight), from_float<T>(out[d][2 * r + 1] * weight));
            *reinterpret_cast<uint32_t*>(to + (query + 8 * r) * p.out.token + 8 * d) = pair;
        }
    }
}

template <typename T, int D>
cudaError_t sized(const Attention& p, int multiprocessors, cudaStream_t stream) {
    const int64_t blocks = static_cast<int64_t>((p.tokens + 63) / 64) * p.heads * p.batch;
    if (blocks < multiprocessors) {  // one image: smaller blocks reach more multiprocessors
        return launch(attention_kernel<T, D, 2>, dim3((p.tokens + 31) / 32, p.heads, p.batch), 64, false, stream, p);
    }
    return launch(attention_kernel<T, D, 4>, dim3((p.tokens + 63) / 64, p.heads, p.batch), 128, false, stream, p);
}

template <typename T>
cudaError_t typed(const Attention& p, int multiprocessors, cudaStream_t stream) {
    switch (p.head_size) {
        case 32:
            return sized<T, 32>(p, multiprocessors, stream);
        case 64:
            return sized<T, 64>(p, multiprocessors, stream);
        case 80:
            return sized<T, 80>(p, multiprocessors, stream);
        case 128:
            return sized<T, 128>(p, multiprocessors, stream);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t attention(const Attention& problem, Type type, int multiprocessors, cudaStream_t stream) {
    return type == Type::fp16 ? typed<__half>(problem, multiprocessors, stream)
                              : typed<__nv_bfloat16>(problem, multiprocessors, stream);
}

}  // namespace edgefm
