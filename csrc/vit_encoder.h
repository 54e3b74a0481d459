// A vision transformer of timm's family, run from a bundle's `native-int8` or
// `native-fp32` variant. Not the bundle (`bundle.h`), not the preparation of
// pixels (`preprocess.h`), not the kernels (`kernels/table.h`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace edgefm {

// What a variant says of itself, for those who allocate outputs.
struct EncoderShape {
    int channels = 0, size = 0;  // prepared images: float32 [C, S, S]
    int embedding = 0;           // D
    int classes = 0;             // K, 0 without a head
    int grid = 0;                // patches per side
    int prefix = 0;              // class token and registers
    bool class_token = false;    // whether a heat map can be asked for
};

// Where answers go; null is not asked for. Rows of one image each.
struct EncoderOutputs {
    float* logits = nullptr;     // [N, K]
    float* embedding = nullptr;  // [N, D]
    float* heat = nullptr;       // [N, grid * grid]: the class token's attention to the
                                 // patches in the last layer, mean over heads
};

// Immutable once made; the bytes it was made of must outlive it. Safe to call
// from several threads: calls take turns.
class Encoder {
  public:
    // json: `encoder.json`; weights: `encoder.bin`, 64-byte aligned, read in
    // place. `threads` >= 1, `images` the most per pass. Every offset and size is
    // checked against `size` before it is believed. Throws std::invalid_argument
    // with what was found and what was expected; std::bad_alloc; NoThreads
    // (threads.h). `isa`: a table's name, "" for the best.
    Encoder(const char* json, size_t json_size, const uint8_t* weights, size_t size, int threads, int images,
            const std::string& isa = "");
    ~Encoder();
    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;

    const EncoderShape& shape() const;
    const char* isa() const;
    int64_t bytes() const;  // of activations and scratch memory, made once; weights are not among them

    // prepared: float32 [N, C, S, S]. Allocates nothing. Throws OtherProcess
    // (threads.h), nothing else. Any N: passes of `images` at most. `seconds`: [threads, 8] to which the time of
    // each phase is added (`Phase` of vit_state.h), or null.
    void run(const float* prepared, int count, const EncoderOutputs& out, double* seconds = nullptr) const;

    struct State;  // private: vit_state.h

  private:
    std::unique_ptr<State> state_;
};

}  // namespace edgefm
