// The engine's kernels as one table of function pointers per instruction set.
// Not the choice of one (`dispatch.cpp`) and not their arithmetic
// (`linear_int8.inl` and its neighbours).
//
// Rows are tokens. Every function may be called from several threads on
// disjoint rows, allocates nothing, throws nothing, and gives each output
// element the same bits whatever the split into rows: sums of int8 products are
// exact, floats have one order. What is int8 gives the same bits on every
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgefm {

constexpr int kColumns = 16;  // N in blocks of 16
constexpr int kGroup = 4;     // K in groups of four
constexpr int kMaxRank = 64;  // of an adapter
constexpr int64_t round_up(int64_t value, int64_t to) {
    return (value + to - 1) / to * to;
}

// A linear layer's int8 weights as they lie in the bundle: 64-byte aligned,
// read in place by every instruction set. weight[n / 16][k / 4][n % 16][k % 4],
// -127..127; n and k padded with zeros to multiples of 16 and 4.
struct Int8Weights {
    const int8_t* weight = nullptr;
    const float* scale = nullptr;  // [round_up(n, 16)]: w = weight * scale, one per output channel
    const int32_t* sum = nullptr;  // [round_up(n, 16)]: sum over k of weight, for
                                   // instruction sets whose activations are u8
    const float* bias = nullptr;   // [round_up(n, 16)], or null
    int n = 0, k = 0;
};

// The same in float32: weight[n / 16][k][n % 16].
struct Fp32Weights {
    const float* weight = nullptr;
    const float* bias = nullptr;
    int n = 0, k = 0;
};

// Activations, quantized per row: x = code * scale, codes of -127..127. Bytes
// are the kernel's own (s8, or u8 = s8 + 128).
struct Int8Rows {
    uint8_t* code = nullptr;  // 64-byte aligned rows
    int64_t stride = 0;       // bytes, a multiple of 64, at least round_up(k, 4); what lies between
                              // k and stride is never multiplied by anything but 0
    float* scale = nullptr;   // [rows]
};

// An un-merged low-rank adapter: y += (x A^T) B^T, rank up to 64. Both factors
// are int8 and run through the dot unit.
struct Int8Adapter {
    Int8Weights a;  // n = rank, k = the layer's k, without bias
    Int8Weights b;  // n = the layer's n, k = rank, without bias; the adapter's
                    // scaling alpha / r is in b.scale
};

enum class Activation : int { none = 0, gelu = 1, gelu_tanh = 2, swiglu = 3 };

// What follows the product, in this order: bias, adapter, activation, * gamma
// (LayerScale), + residual. swiglu: the weights' blocks of 16 columns
// alternate, gate block, value block; y = silu(gate) * value has n / 2 columns.
struct Epilogue {
    Activation activation = Activation::none;
    const float* gamma = nullptr;     // [columns of y], or null
    const float* residual = nullptr;  // rows of y's width, or null; may be y itself
    int64_t residual_stride = 0;      // floats
};

struct LinearInt8 {
    Int8Rows x;  // m rows
    int m = 0;
    const Int8Weights* w = nullptr;
    const Int8Adapter* adapters = nullptr;  // or null
    const int32_t* adapter_of = nullptr;    // [m], an index into adapters, -1 for none; null with adapters:
                                            // all rows take adapters[0]
    Epilogue after;
    float* y = nullptr;          // m rows, only its n (swiglu: n / 2) columns are written
    int64_t y_stride = 0;        // floats
    uint8_t* scratch = nullptr;  // of this call only: linear_scratch(m) bytes,
                                 // 64-byte aligned; null without adapters
};

struct LinearFp32 {
    const float* x = nullptr;
    int64_t x_stride = 0;
    int m = 0;
    const Fp32Weights* w = nullptr;
    bool same_bits = false;  // before the activation, as on every other instruction set: slow where there is no FMA
    Epilogue after;
    float* y = nullptr;
    int64_t y_stride = 0;
};

struct LayerNorm {
    const float* x = nullptr;
    int64_t x_stride = 0;
    int m = 0, k = 0;
    const float* gamma = nullptr;  // [k], or null
    const float* beta = nullptr;   // [k], or null
    float eps = 1e-6f;
    float* y = nullptr;  // float rows, or null
    int64_t y_stride = 0;
    Int8Rows codes;  // or code = null; both may be asked for
};

// One head of one image. q, k, v are float rows of `width` values (32 to 128, a
// multiple of 8), `stride` floats apart. Softmax(scale * q k^T) v. int8: K
// without its mean over the tokens (smooth-K, SageAttention: softmax does not
// see it), q and k per row, v per channel, probabilities u8 against the row's
// true maximum.
struct Attention {
    const float* q = nullptr;
    const float* k = nullptr;
    const float* v = nullptr;
    int64_t stride = 0;
    int tokens = 0, width = 0;
    float scale = 1.0f;
    uint8_t* packed = nullptr;   // attention_packed(tokens, width, int8) bytes, 64-byte
                                 // aligned: K and V as the kernel wants them
    uint8_t* scratch = nullptr;  // of this call only: attention_scratch(tokens,
                                 // width, int8) bytes, 64-byte aligned
    float* y = nullptr;          // rows of `width` values
    int64_t y_stride = 0;
    float* lse = nullptr;   // [tokens] natural log-sum-exp of the scaled scores, or null
    float* row0 = nullptr;  // [tokens] probabilities of token 0 (the class token),
                            // or null; written when row 0 is among the rows
};

struct Kernels {
    const char* name;  // "scalar", "sse41", "avx2", "avx_vnni", "avx512_vnni",
                       // "neon_dotprod"

    void (*quantize_rows)(const float* x, int64_t x_stride, int m, int k, Int8Rows out);
    void (*layernorm)(const LayerNorm&);
    void (*linear_int8)(const LinearInt8&);
    void (*linear_fp32)(const LinearFp32&);
    size_t (*linear_scratch)(int m);

    size_t (*attention_packed)(int tokens, int width, bool int8);
    size_t (*attention_scratch)(int tokens, int width, bool int8);
    void (*attention_pack_int8)(const Attention&);  // once per head, before its rows
    void (*attention_int8)(const Attention&, int first,
                           int last);  // rows first to last - 1
    void (*attention_pack_fp32)(const Attention&);
    void (*attention_fp32)(const Attention&, int first, int last);
};

// The table of an instruction set, null if this build or this processor has
// none. Implemented in dispatch.cpp.
const Kernels* kernels(const char* name);
// The best table of this processor, not above the variable EDGEFM_ISA.
const Kernels& best_kernels();

}  // namespace edgefm
