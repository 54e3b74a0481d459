#include <algorithm>
#include <cstring>

#include "vit_state.h"

namespace edgefm {
namespace {

constexpr int kAtOnce = 64;  // columns that a mean adds up at a time, in double

void normalise(const Kernels& kernels, const Norm& norm, float eps, float* x, int64_t stride, int m, int width) {
    LayerNorm call;
    call.x = call.y = x;
    call.x_stride = call.y_stride = stride;
    call.m = m;
    call.k = width;
    call.gamma = norm.gamma;
    call.beta = norm.beta;
    call.eps = eps;
    kernels.layernorm(call);
}

}  // namespace

// Tokens of one image to its embedding and logits, and its heat map.
void Pass::pool(Own& own, int image) {
    const VitDescription& d = state.description;
    const VitWeights& w = state.weights;
    const Arena& arena = state.arena;
    float* x = arena.x + int64_t{image} * d.tokens() * d.width;
    if (d.final_norm == FinalNorm::tokens) {
        normalise(state.kernels, w.last, d.eps, x, d.width, class_only() ? 1 : d.tokens(), d.width);
    }
    float* pooled = arena.pooled + int64_t{image} * d.pooled();
    if (d.pooling != Pooling::mean) std::memcpy(pooled, x, static_cast<size_t>(d.width) * sizeof(float));
    if (d.pooling == Pooling::mean) mean_of_patches(x, pooled);
    if (d.pooling == Pooling::class_and_mean) mean_of_patches(x, pooled + d.width);
    if (d.final_norm == FinalNorm::pooled) normalise(state.kernels, w.last, d.eps, pooled, d.pooled(), 1, d.pooled());
    const float* embedding = pooled;
    if (d.projection > 0) {
        float* made = arena.embedding + int64_t{image} * d.projection;
        multiply(state.kernels, w.projection, pooled, d.pooled(), 1, own, Epilogue(), made, d.projection);
        embedding = made;
    }
    if (out.embedding != nullptr) {
        std::memcpy(out.embedding + int64_t{image} * d.embedding(), embedding,
                    static_cast<size_t>(d.embedding()) * sizeof(float));
    }
    if (out.logits != nullptr && d.classes > 0) {
        float* logits = out.logits + int64_t{image} * d.classes;
        multiply(state.kernels, w.head, embedding, d.embedding(), 1, own, Epilogue(), logits, d.classes);
    }
    if (out.heat != nullptr) mean_of_heads(image);
}

void Pass::mean_of_patches(const float* x, float* mean) const {
    const VitDescription& d = state.description;
    const float* patches = x + int64_t{d.prefix} * d.width;
    for (int column = 0; column < d.width; column += kAtOnce) {
        const int columns = std::min(kAtOnce, d.width - column);
        double sum[kAtOnce] = {};
        for (int i = 0; i < d.patches(); i++) {
            const float* row = patches + int64_t{i} * d.width + column;
            for (int c = 0; c < columns; c++) sum[c] += row[c];
        }
        for (int c = 0; c < columns; c++) mean[column + c] = static_cast<float>(sum[c] / d.patches());
    }
}

void Pass::mean_of_heads(int image) const {
    const VitDescription& d = state.description;
    const float* rows = state.arena.heat + int64_t{image} * d.heads * state.arena.heat_stride + d.prefix;
    float* mean = out.heat + int64_t{image} * d.patches();
    for (int i = 0; i < d.patches(); i++) {
        float sum = 0.0f;
        for (int head = 0; head < d.heads; head++) sum += rows[head * state.arena.heat_stride + i];
        mean[i] = sum / static_cast<float>(d.heads);
    }
}

}  // namespace edgefm
