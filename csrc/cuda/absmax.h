// Where the scales of an NF4 weight lie: fp32, or doubly quantized as bitsandbytes does. Not their decoding: weights.cuh.

#pragma once

#include <cstdint>

namespace edgefm {

struct Absmax {
    const float* plain = nullptr;          // [blocks], or null: then the rest
    const uint8_t* quantized = nullptr;    // [blocks]
    const float* nested_code = nullptr;    // [256]
    const float* nested_absmax = nullptr;  // [blocks / 256, rounded up]
    const float* offset = nullptr;         // one
};

}  // namespace edgefm
