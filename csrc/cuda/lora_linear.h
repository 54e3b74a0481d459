// LoRA on a frozen NF4 or int8 linear layer, inference only: y = act(x W^T + bias + scale (x A^T) B^T). Hu et al. 2021.
// What the launcher takes; no torch, no Python. Pointers are on the device unless said otherwise.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "absmax.h"

namespace edgefm {

enum class Weight { nf4, int8 };
enum class Type { fp16, bf16 };
enum class Activation { none, gelu, silu };  // gelu with erf

struct LoraLinear {
    const void* x = nullptr;           // T [rows, inner], 16-byte aligned
    const void* weight = nullptr;      // nf4: uint8 [outer * inner / 2]; int8 [outer, inner]; 16-byte aligned
    Absmax absmax;                     // of nf4
    const float* row_scale = nullptr;  // of int8: [outer]
    const void* bias = nullptr;        // T [outer], or null
    const void* a = nullptr;           // T [rank, inner], 16-byte aligned
    const void* b = nullptr;           // T [outer, rank]
    void* y = nullptr;                 // T [rows, outer]
    void* down = nullptr;              // workspace: x A^T
    float* partial = nullptr;          // workspace: [splits, rows, outer] where splits > 1
    float scale = 1.0f;
    int rows = 0, inner = 0, outer = 0, rank = 0;  // inner a multiple of 64, rank 0 to 128
    int splits = 1;                                // parts of `inner` that are summed apart
    Activation activation = Activation::none;
};

constexpr int FEW_ROWS = 8;  // up to here without matrix instructions

// Bytes of workspace for these sizes on a card of so many multiprocessors.
struct Workspace {
    int splits;
    int64_t down_bytes, partial_bytes;
};
Workspace lora_workspace(int rows, int inner, int outer, int rank, int multiprocessors);

// `early`: the card can begin a kernel before the one before ends (compute capability 9.0 and later).
cudaError_t lora_linear(LoraLinear problem, Weight weight, Type type, bool early, cudaStream_t stream);

}  // namespace edgefm
