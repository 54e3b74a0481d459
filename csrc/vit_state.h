// What an encoder holds beside its weights: one arena, laid out once, and the team that works in it.
// Private to vit_encoder.cpp, vit_layers.cpp and vit_pooling.cpp.
#pragma once

#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "threads.h"
#include "vit_description.h"
#include "vit_encoder.h"
#include "vit_weights.h"

namespace edgefm {

// Most rows that one thread carries through a layer at a time: few enough for the activations to stay in the second-level
// cache, many enough for the weights, read anew for each strip, not to be what it waits for. Against 48: ViT-B 1.14 times as
// fast, ViT-S 1.04, ViT-Ti 1.02 (one thread, 2 MiB of cache, 197 tokens).
constexpr int kStrip = 104;

enum Phase : int { kEmbed, kQkv, kPack, kAttention, kProj, kMlp, kPool, kWait, kPhases };

// Of one thread, `kStrip` rows each.
struct Own {
    float* rows = nullptr;    // [kStrip, as wide as any layer's input]: normalised rows (fp32), patches
    float* hidden = nullptr;  // [kStrip, hidden]
    Int8Rows codes;
    uint8_t* scratch = nullptr;  // of the attention kernels
};

// Rows of all images of a pass lie one behind the other.
struct Arena {
    // Throws std::invalid_argument where that would be more than 2 GiB; std::bad_alloc.
    explicit Arena(const VitDescription& d, const Kernels& kernels, int images, int threads);

    float* x = nullptr;          // [rows, D], the residual stream
    float* qkv = nullptr;        // [rows, 3 A]
    float* attention = nullptr;  // [rows, A]
    uint8_t* packed = nullptr;   // [images, heads, packed_stride]
    int64_t packed_stride = 0;   // bytes
    float* heat = nullptr;       // [images, heads, heat_stride]: the class token's rows of the last layer
    int64_t heat_stride = 0;     // floats
    float* pooled = nullptr;     // [images, pooled]
    float* embedding = nullptr;  // [images, E]
    int64_t row_stride = 0;      // floats of Own::rows
    std::vector<Own> own;        // [threads]
    int64_t bytes = 0;           // of all of these

  private:
    struct Free {
        void operator()(uint8_t* memory) const { std::free(memory); }
    };
    std::unique_ptr<uint8_t, Free> memory_;
};

struct Encoder::State {
    State(const Json& json, const uint8_t* weights, size_t size, int threads, int images, const Kernels& kernels);

    const Kernels& kernels;
    const VitDescription description;
    const VitWeights weights;
    const int images;
    EncoderShape shape;
    Arena arena;
    std::mutex turn;
    Team team;
};

// One pass of at most `images` images through the team.
struct Pass {
    Encoder::State& state;
    const float* prepared;  // [count, C, S, S]
    int count;
    EncoderOutputs out;
    double* seconds;  // [threads, kPhases] to add to, or null

    // What one thread does, first to last.
    void work(int thread);

  private:
    struct Strip;  // rows at equal distances

    void embed(Own& own, int64_t first, int64_t last);
    void norm_and_qkv(Own& own, const VitLayer& layer, int64_t first, int64_t last);
    void pack(Own& own, int thread);
    void attend(Own& own, bool is_last, int64_t first, int64_t last);
    void finish_layer(Own& own, const VitLayer& layer, const Strip& strip, double* seconds);
    void finish_class_tokens(Own& own, const VitLayer& layer, int64_t first, int64_t last, double* seconds);
    Attention head_of(Own& own, int image, int head) const;
    bool class_only() const;

    void pool(Own& own, int image);
    void mean_of_patches(const float* x, float* out) const;
    void mean_of_heads(int image) const;
};

// rows · weights, whichever of the two kinds the layer is; float rows are quantized first for int8.
void multiply(const Kernels& kernels, const Linear& layer, const float* x, int64_t x_stride, int m, const Own& own,
              const Epilogue& after, float* y, int64_t y_stride);
// The same of LayerNorm(rows), in one go.
void norm_and_multiply(const Kernels& kernels, const Norm& norm, float eps, const Linear& layer, int width, const float* x,
                       int64_t x_stride, int m, const Own& own, int64_t own_stride, const Epilogue& after, float* y,
                       int64_t y_stride);

// Adds the time since the last call to a phase; does nothing where nobody asked for times.
class Clock {
  public:
    explicit Clock(double* seconds) : seconds_(seconds) {
        if (seconds_ != nullptr) last_ = std::chrono::steady_clock::now();
    }
    void add(Phase phase) {
        if (seconds_ == nullptr) return;
        const auto now = std::chrono::steady_clock::now();
        seconds_[phase] += std::chrono::duration<double>(now - last_).count();
        last_ = now;
    }

  private:
    double* seconds_;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace edgefm
