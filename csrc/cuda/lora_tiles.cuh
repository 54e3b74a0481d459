// LoRA linear for many rows of x with matrix instructions; W becomes 16-bit pairs in registers and never touches memory.
// Not for a handful of rows: see lora_rows.cuh.
//
// A block makes 64 rows x 128 outputs, each of its four warps 64 x 32, in steps of 64 along the inner dimension. A product does
// not mind the order of its terms: in a step, thread t of four takes the sixteen neighbouring columns 16t.. of both x and W (8
// bytes of NF4), and hands four of them to each of four matrix instructions. So fragments need no ldmatrix and W no shuffling:
//
//     instruction s, fragment columns 2t, 2t+1 are 16t + 4s, +1 in memory; columns 2t+8, 2t+9 are 16t + 4s + 2, +3
//
// NF4: each step's sum over 64 unscaled codes is multiplied by its absmax in fp32. int8: exact products, one scale at the end.

#pragma once

#include <type_traits>

#include "lora_rows.cuh"

namespace edgefm {

constexpr int TILE_ROWS = 64, TILE_OUTPUTS = 128, STEP = 64;
constexpr int TILE_WARPS = 4, TILE_THREADS = 32 * TILE_WARPS;
constexpr int STAGES = 3;         // steps on their way from global memory
constexpr int ABSMAX_STEPS = 16;  // steps whose absmax lie decoded in shared memory
constexpr int DOWN_RANKS = 32;    // rows of A of a block of lora_down_tiles
constexpr int DOWN_WARPS = 8;

// Where 16-byte chunk `chunk` of a 128-byte row lies in shared memory: so that eight neighbouring lanes, two rows of four
// threads that each read every second chunk, meet 32 different banks.
__host__ __device__ constexpr int x_offset(int row, int chunk) {
    return row * 128 + ((chunk ^ (row & 1)) << 4);
}

// Fragments of one row for the four instructions of a step: columns 16t to 16t + 15.
struct Sixteen {
    uint4 low, high;
    __device__ uint32_t first(int s) const { return s == 0 ? low.x : s == 1 ? low.z : s == 2 ? high.x : high.z; }
    __device__ uint32_t second(int s) const { return s == 0 ? low.y : s == 1 ? low.w : s == 2 ? high.y : high.w; }
};

__host__ __device__ constexpr int padded_rank(int rank) {
    return (rank + 15) / 16 * 16;
}

// t [rows, padded rank] in T = scale x A^T, zeros past the rank; the warps of a block take every eighth step.
template <typename T>
__global__ void __launch_bounds__(32 * DOWN_WARPS) lora_down_tiles(LoraLinear p) {
    __shared__ float parts[DOWN_WARPS][16][DOWN_RANKS];
    let_next_begin();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int row = blockIdx.x * 16, rank = blockIdx.y * DOWN_RANKS;
    const T* x = static_cast<const T*>(p.x) + 16 * t;
    const T* a = static_cast<const T*>(p.a) + 16 * t;
    const T* above = x + static_cast<int64_t>(min(row + g, p.rows - 1)) * p.inner;
    const T* below = x + static_cast<int64_t>(min(row + g + 8, p.rows - 1)) * p.inner;
    float sum[DOWN_RANKS / 8][4] = {};
    for (int k = warp * STEP; k < p.inner; k += DOWN_WARPS * STEP) {
        const uint4* upper = reinterpret_cast<const uint4*>(above + k);
        const uint4* lower = reinterpret_cast<const uint4*>(below + k);
        const Sixteen x0 = {upper[0], upper[1]}, x1 = {lower[0], lower[1]};
#pragma unroll
        for (int n = 0; n < DOWN_RANKS / 8; ++n) {
            const T* from = a + static_cast<int64_t>(min(rank + 8 * n + g, p.rank - 1)) * p.inner + k;
            const uint4* wide = reinterpret_cast<const uint4*>(from);
            const Sixteen w = {wide[0], wide[1]};
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                const uint32_t fragment[4] = {x0.first(s), x1.first(s), x0.second(s), x1.second(s)};
                mma<T>(sum[n], fragment, w.first(s), w.second(s));
            }
        }
    }
#pragma unroll
    for (int n = 0; n < DOWN_RANKS / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) parts[warp][g + 8 * (i / 2)][8 * n + 2 * t + i % 2] = sum[n][i];
    }
    __syncthreads();
    const int padded = padded_rank(p.rank);
    for (int at = threadIdx.x; at < 16 * DOWN_RANKS; at += 32 * DOWN_WARPS) {
        const int i = at / DOWN_RANKS, j = at % DOWN_RANKS;
        if (row + i >= p.rows || rank + j >= padded) continue;
        float total = 0.0f;
        for (int w = 0; w < DOWN_WARPS; ++w) total += parts[w][i][j];
        const int64_t to = static_cast<int64_t>(row + i) * padded + rank + j;
        static_cast<T*>(p.down)[to] = from_float<T>(rank + j < p.rank ? p.scale * total : 0.0f);
    }
}

// One step on its way: x as [64 rows, 64], W as each thread will want it, eight (NF4) or sixteen (int8) bytes per eight
// outputs.
template <Weight W>
struct Stage {
    uint4 x[TILE_ROWS * 8];
    typename std::conditional<W == Weight::nf4, uint2, uint4>::type w[4][TILE_THREADS];
};

template <typename T, Weight W>
__device__ inline void fetch(const LoraLinear& p, Stage<W>& stage, int row, int output, int k) {
    const T* x = static_cast<const T*>(p.x);
#pragma unroll
    for (int i = 0; i < TILE_ROWS * 8 / TILE_THREADS; ++i) {
        const int at = i * TILE_THREADS + threadIdx.x, r = at / 8, chunk = at % 8;
        const T* from = x + static_cast<int64_t>(min(row + r, p.rows - 1)) * p.inner + k + 8 * chunk;
        copy_async<16>(reinterpret_cast<char*>(stage.x) + x_offset(r, chunk), from, row + r < p.rows);
    }
    constexpr int BYTES = sizeof(stage.w[0][0]);
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const int64_t w =
            static_cast<int64_t>(min(output + 8 * n + lane / 4, p.outer - 1)) * (p.inner / 16) + k / 16 + lane % 4;
        copy_async<BYTES>(&stage.w[n][threadIdx.x], static_cast<const char*>(p.weight) + w * BYTES, true);
    }
}

// This thread's B fragments of a step: outputs g + 8n, instructions s, two registers each.
template <typename T, Weight W>
__device__ inline void weight_fragments(const Stage<W>& stage, uint32_t (&to)[4][8]) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const auto stored = stage.w[n][threadIdx.x];
        if constexpr (W == Weight::nf4) {
            const uint32_t words[2] = {stored.x, stored.y};
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                uint32_t pairs[4];
                nf4_pairs<T>(words[i], pairs);
#pragma unroll
                for (int j = 0; j < 4; ++j) to[n][4 * i + j] = pairs[j];
            }
        } else {
            const uint32_t words[4] = {stored.x, stored.y, stored.z, stored.w};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                uint32_t pairs[2];
                int8_pairs<T>(words[i], pairs);
                to[n][2 * i] = pairs[0];
                to[n][2 * i + 1] = pairs[1];
            }
        }
    }
}

// Adds t B^T to the sums, sixteen ranks at a time in the ordinary order.
template <typename T>
__device__ inline void add_low_rank(const LoraLinear& p, float (&sum)[4][4][4], int row, int output, int g, int t) {
    const int padded = padded_rank(p.rank);
    const T* down = static_cast<const T*>(p.down);
    const T* b = static_cast<const T*>(p.b);
    const T zero = from_float<T>(0.0f);
    for (int j = 0; j < p.rank; j += 16) {
        uint32_t right[4][2];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            const T* from = b + static_cast<int64_t>(min(output + 8 * n + g, p.outer - 1)) * p.rank;
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int at = j + 2 * t + 8 * i;
                right[n][i] = pack<T>(at < p.rank ? from[at] : zero, at + 1 < p.rank ? from[at + 1] : zero);
            }
        }
#pragma unroll
        for (int m = 0; m < 4; ++m) {
            const T* above = down + static_cast<int64_t>(min(row + 16 * m + g, p.rows - 1)) * padded + j + 2 * t;
            const T* below = down + static_cast<int64_t>(min(row + 16 * m + g + 8, p.rows - 1)) * padded + j + 2 * t;
            const uint32_t left[4] = {*reinterpret_cast<const uint32_t*>(above), *reinterpret_cast<const uint32_t*>(below),
                                      *reinterpret_cast<const uint32_t*>(above + 8),
                                      *reinterpret_cast<const uint32_t*>(below + 8)};
#pragma unroll
            for (int n = 0; n < 4; ++n) mma<T>(sum[m][n], left, right[n][0], right[n][1]);
        }
    }
}

// Block (x, y, z): outputs, rows, part of the inner dimension. y, or where splits > 1 partial sums for lora_sum.
template <typename T, Weight W>
__global__ void __launch_bounds__(TILE_THREADS) lora_tiles(LoraLinear p) {
    __shared__ Stage<W> stages[STAGES];
    __shared__ float absmax[W == Weight::nf4 ? ABSMAX_STEPS : 1][TILE_OUTPUTS];
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int row = blockIdx.y * TILE_ROWS;
    const int column = threadIdx.x / 32 * 32;  // the warp's first output within the tile
    const int output = blockIdx.x * TILE_OUTPUTS + column;
    const int all = p.inner / STEP, begin = all * blockIdx.z / p.splits, end = all * (blockIdx.z + 1) / p.splits;

#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i) {
        if (begin + i < end) fetch<T, W>(p, stages[i], row, output, (begin + i) * STEP);
        copies_commit();
    }
    float sum[4][4][4] = {};
    for (int step = begin; step < end; ++step) {
        if constexpr (W == Weight::nf4) {
            if ((step - begin) % ABSMAX_STEPS == 0) {
                __syncthreads();  // nobody reads the ones before any more
                const float offset = p.absmax.plain == nullptr ? *p.absmax.offset : 0.0f;
                const int n = min(static_cast<int>(blockIdx.x) * TILE_OUTPUTS + static_cast<int>(threadIdx.x), p.outer - 1);
#pragma unroll 4
                for (int i = 0; i < ABSMAX_STEPS; ++i) {
                    const int64_t block = static_cast<int64_t>(n) * all + min(step + i, all - 1);
                    absmax[i][threadIdx.x] = decode(p.absmax, p.absmax.nested_code, offset, block);
                }
            }
        }
        copies_wait<STAGES - 2>();
        __syncthreads();  // this step is there for everyone, and the stage before it is free
        const int ahead = step + STAGES - 1;
        if (ahead < end) fetch<T, W>(p, stages[(ahead - begin) % STAGES], row, output, ahead * STEP);
        copies_commit();

        const Stage<W>& stage = stages[(step - begin) % STAGES];
        uint32_t weights[4][8];
        weight_fragments<T, W>(stage, weights);
#pragma unroll
        for (int m = 0; m < 4; ++m) {
            const char* x = reinterpret_cast<const char*>(stage.x);
            const int upper = 16 * m + g, lower = upper + 8;
            const Sixteen x0 = {*reinterpret_cast<const uint4*>(x + x_offset(upper, 2 * t)),
                                *reinterpret_cast<const uint4*>(x + x_offset(upper, 2 * t + 1))};
            const Sixteen x1 = {*reinterpret_cast<const uint4*>(x + x_offset(lower, 2 * t)),
                                *reinterpret_cast<const uint4*>(x + x_offset(lower, 2 * t + 1))};
            float part[4][4];
#pragma unroll
            for (int n = 0; n < 4; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) part[n][i] = W == Weight::nf4 ? 0.0f : sum[m][n][i];
            }
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                const uint32_t fragment[4] = {x0.first(s), x1.first(s), x0.second(s), x1.second(s)};
#pragma unroll
                for (int n = 0; n < 4; ++n) mma<T>(part[n], fragment, weights[n][2 * s], weights[n][2 * s + 1]);
            }
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                if constexpr (W == Weight::nf4) {
                    const float* scale = &absmax[(step - begin) % ABSMAX_STEPS][column + 8 * n + 2 * t];
#pragma unroll
                    for (int i = 0; i < 4; ++i) sum[m][n][i] = fmaf(part[n][i], scale[i % 2], sum[m][n][i]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; ++i) sum[m][n][i] = part[n][i];
                }
            }
        }
    }
    let_next_begin();
    if constexpr (W == Weight::int8) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float scale = p.row_scale[min(output + 8 * n + 2 * t + i, p.outer - 1)];
#pragma unroll
                for (int m = 0; m < 4; ++m) {
                    sum[m][n][i] *= scale;
                    sum[m][n][i + 2] *= scale;
                }
            }
        }
    }
    wait_for_previous();  // t is there
    if (blockIdx.z == 0) add_low_rank<T>(p, sum, row, output, g, t);

    const bool whole = p.splits == 1;
    float* partial = p.partial + (whole ? 0 : static_cast<int64_t>(blockIdx.z) * p.rows * p.outer);
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int r = row + 16 * m + g + 8 * (i / 2), o = output + 8 * n + 2 * t + i % 2;
                if (r >= p.rows || o >= p.outer) continue;
                const int64_t at = static_cast<int64_t>(r) * p.outer + o;
                if (whole) {
                    const float bias = p.bias != nullptr ? to_float(static_cast<const T*>(p.bias)[o]) : 0.0f;
                    static_cast<T*>(p.y)[at] = from_float<T>(activated(sum[m][n][i] + bias, p.activation));
                } else {
                    partial[at] = sum[m][n][i];
                }
            }
        }
    }
}

// y = act(the sum of the parts + bias).
template <typename T>
__global__ void __launch_bounds__(256) lora_sum(LoraLinear p) {
    wait_for_previous();
    const int64_t size = static_cast<int64_t>(p.rows) * p.outer;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (at >= size) return;
    float value = p.bias != nullptr ? to_float(static_cast<const T*>(p.bias)[at % p.outer]) : 0.0f;
#pragma unroll 4
    for (int i = 0; i < p.splits; ++i) value += p.partial[i * size + at];
    static_cast<T*>(p.y)[at] = from_float<T>(activated(value, p.activation));
}

}  // namespace edgefm
