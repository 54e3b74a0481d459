// Attention with a bias, forward only: softmax(scale q k^T + bias) v. What the launcher takes; no torch, no Python.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "lora_linear.h"

namespace edgefm {

// A tensor [batch, heads, tokens, head size] whose last axis is contiguous; strides in elements.
struct Heads {
    const void* data = nullptr;
    int64_t batch = 0, head = 0, token = 0;
};

struct Attention {
    Heads q, k, v;  // T, 16-byte aligned, strides multiples of 8
    Heads bias;     // [batch, heads, tokens, tokens] of T or fp32, stride 0 where it is shared; data null: none
    Heads out;      // T
    float scale = 1.0f;
    int batch = 0, heads = 0, tokens = 0, head_size = 0;  // head size 32, 64, 80 or 128
    bool bias_fp32 = false;
};

cudaError_t attention(const Attention& problem, Type type, int multiprocessors, cudaStream_t stream);

}  // namespace edgefm
