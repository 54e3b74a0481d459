// Which kernels make a LoRA linear layer of these sizes, and their launch. The arithmetic is in lora_rows.cuh and
// lora_tiles.cuh.

#include <algorithm>

#include "launch.cuh"
#include "lora_linear.h"
#include "lora_tiles.cuh"

namespace edgefm {

namespace {

int divided(int value, int by) {
    return (value + by - 1) / by;
}

template <typename T, Weight W, int M>
cudaError_t few_rows(const LoraLinear& p, bool early, cudaStream_t stream) {
    const bool adapted = p.rank > 0;
    if (adapted) {
        const cudaError_t wrong =
            launch(lora_down_rows<T, M>, dim3(divided(p.rank, ROWS_WARPS)), 32 * ROWS_WARPS, false, stream, p);
        if (wrong != cudaSuccess) return wrong;
    }
    const dim3 grid(divided(p.outer, ROWS_WARPS * ROWS_OUTPUTS));
    return launch(lora_rows<T, W, M>, grid, 32 * ROWS_WARPS, adapted && early, stream, p);
}

template <typename T, Weight W>
cudaError_t many_rows(const LoraLinear& p, bool early, cudaStream_t stream) {
    const bool adapted = p.rank > 0;
    cudaError_t wrong = cudaSuccess;
    if (adapted) {
        const dim3 grid(divided(p.rows, 16), divided(p.rank, DOWN_RANKS));
        wrong = launch(lora_down_tiles<T>, grid, 32 * DOWN_WARPS, false, stream, p);
        if (wrong != cudaSuccess) return wrong;
    }
    const dim3 grid(divided(p.outer, TILE_OUTPUTS), divided(p.rows, TILE_ROWS), p.splits);
    wrong = launch(lora_tiles<T, W>, grid, TILE_THREADS, adapted && early, stream, p);
    if (wrong != cudaSuccess || p.splits == 1) return wrong;
    const int64_t size = static_cast<int64_t>(p.rows) * p.outer;
    return launch(lora_sum<T>, dim3(static_cast<unsigned>((size + 255) / 256)), 256, early, stream, p);
}

template <typename T, Weight W>
cudaError_t any_rows(const LoraLinear& p, bool early, cudaStream_t stream) {
    if (p.rows == 1) return few_rows<T, W, 1>(p, early, stream);
    if (p.rows <= 4) return few_rows<T, W, 4>(p, early, stream);
    if (p.rows <= FEW_ROWS) return few_rows<T, W, FEW_ROWS>(p, early, stream);
    return many_rows<T, W>(p, early, stream);
}

}  // namespace

// Parts of the inner dimension only where the tiles alone leave multiprocessors idle, and of at least four steps each: the
// partial sums are written and read once more.
Workspace lora_workspace(int rows, int inner, int outer, int rank, int multiprocessors) {
    const int64_t size = static_cast<int64_t>(rows) * outer;
    if (rows <= FEW_ROWS) return {1, static_cast<int64_t>(rows) * rank * 4, 0};
    const int64_t tiles = static_cast<int64_t>(divided(rows, TILE_ROWS)) * divided(outer, TILE_OUTPUTS);
    const int splits =
        static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({multiprocessors / tiles, inner / STEP / 4, 8})));
    return {splits, static_cast<int64_t>(rows) * padded_rank(rank) * 2, splits > 1 ? splits * size * 4 : 0};
}

cudaError_t lora_linear(LoraLinear problem, Weight weight, Type type, bool early, cudaStream_t stream) {
    if (type == Type::fp16) {
        return weight == Weight::nf4 ? any_rows<__half, Weight::nf4>(problem, early, stream)
                                     : any_rows<__half, Weight::int8>(problem, early, stream);
    }
    return weight == Weight::nf4 ? any_rows<__nv_bfloat16, Weight::nf4>(problem, early, stream)
                                 : any_rows<__nv_bfloat16, Weight::int8>(problem, early, stream);
}

}  // namespace edgefm
