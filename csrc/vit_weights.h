// A vision transformer's tensors where they lie in `encoder.bin`, found by name, each held to its type, shape and the file's
// end. Not their reading into kernels (`vit_layers.cpp`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "json.h"
#include "kernels/table.h"
#include "vit_description.h"

namespace edgefm {

struct Norm {
    const float* gamma = nullptr;
    const float* beta = nullptr;
};

// One of the two, as its variant has it; n = 0 for a layer that is not there.
struct Linear {
    bool is_int8 = false, same_bits = false;  // same_bits: of a model in int8, whose answer is the same everywhere
    Int8Weights int8;
    Fp32Weights fp32;

    int n() const { return is_int8 ? int8.n : fp32.n; }
};

struct VitLayer {
    Norm norm1, q_norm, k_norm, norm2;
    Linear qkv, proj, fc1, fc2;
    const float* hidden = nullptr;  // [round_up(H, 16)]: what GELU's columns are multiplied with; int8 with GELU only
};

struct VitWeights {
    const float* prefix = nullptr;    // [P, D]: class token and registers with their positions
    const float* position = nullptr;  // [patches, D]: with the patch embedding's bias
    Linear patch;                     // [D, C * patch * patch]
    Norm pre, last;
    std::vector<VitLayer> layers;
    Linear projection, head;  // always float32
};

// Throws std::invalid_argument: a tensor that is missing, of another type or shape, not aligned, beyond `size`, or unknown; two
// that share bytes; int8 weights that are not what `wrong_codes` wants.
VitWeights read_weights(const Json& json, const VitDescription& description, const uint8_t* bytes, size_t size);

}  // namespace edgefm
