// What `encoder.json` says of a vision transformer (docs/native-format.md), each number held to its bounds.
// Not the tensors (`vit_weights.h`) and not the arithmetic (`vit_layers.cpp`).
#pragma once

#include <cstddef>
#include <cstdint>

#include "json.h"
#include "kernels/table.h"

namespace edgefm {

enum class Pooling : int {
    class_token = 0,
    mean = 1,
    class_and_mean = 2
};  // mean: of the patches, without class and registers
enum class FinalNorm : int { none = 0, tokens = 1, pooled = 2 };  // before pooling, after it

struct VitDescription {
    bool int8 = false;        // else float32
    bool patch_int8 = false;  // of the patch embedding alone
    int channels = 0, size = 0, patch = 0;
    int width = 0, depth = 0, heads = 0, head_width = 0;
    int hidden = 0;  // columns that fc2 reads; packed SwiGLU's fc1 has twice as many
    int prefix = 0;  // class token and registers
    bool class_token = false;
    bool pre_norm = false, qk_norm = false;
    float eps = 0.0f;  // of every LayerNorm
    Activation activation = Activation::gelu;
    FinalNorm final_norm = FinalNorm::tokens;
    Pooling pooling = Pooling::class_token;
    int projection = 0;  // columns of a linear layer behind pooling that makes the embedding, 0 without
    int classes = 0;     // logits of a linear layer on the embedding, 0 without

    int grid() const { return size / patch; }
    int patches() const { return grid() * grid(); }
    int tokens() const { return prefix + patches(); }
    int pixels() const { return channels * patch * patch; }  // of one patch
    int attention() const { return heads * head_width; }
    int pooled() const { return pooling == Pooling::class_and_mean ? 2 * width : width; }
    int embedding() const { return projection > 0 ? projection : pooled(); }
};

// The architecture in a parsed `encoder.json`. Throws std::invalid_argument: what was found, what was expected.
VitDescription read_description(const Json& json);

}  // namespace edgefm
