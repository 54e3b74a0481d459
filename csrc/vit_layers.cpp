#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention_long.h"
#include "vit_state.h"

namespace edgefm {
namespace {

// How many of `rows` to take at a time: at most kStrip, in strips of about equal length, since the last one reads all weights,
// too.
int64_t strip_of(int64_t rows) {
    const int64_t strips = std::max<int64_t>(1, (rows + kStrip - 1) / kStrip);
    return std::max<int64_t>(8, round_up((rows + strips - 1) / strips, 8));
}

}  // namespace

// Rows of the residual stream, with what attention gave for them.
struct Pass::Strip {
    float* x;
    int64_t x_stride;
    const float* attention;
    int64_t attention_stride;
    int m;
};

// y from codes that are already there.
static void multiply_codes(const Kernels& kernels, const Linear& layer, int m, const Own& own, const Epilogue& after, float* y,
                           int64_t y_stride) {
    LinearInt8 call;
    call.x = own.codes;
    call.m = m;
    call.w = &layer.int8;
    call.after = after;
    call.y = y;
    call.y_stride = y_stride;
    kernels.linear_int8(call);
}

void multiply(const Kernels& kernels, const Linear& layer, const float* x, int64_t x_stride, int m, const Own& own,
              const Epilogue& after, float* y, int64_t y_stride) {
    if (layer.is_int8) {
        kernels.quantize_rows(x, x_stride, m, layer.int8.k, own.codes);
        return multiply_codes(kernels, layer, m, own, after, y, y_stride);
    }
    LinearFp32 call;
    call.x = x;
    call.x_stride = x_stride;
    call.m = m;
    call.w = &layer.fp32;
    call.same_bits = layer.same_bits;
    call.after = after;
    call.y = y;
    call.y_stride = y_stride;
    kernels.linear_fp32(call);
}

void norm_and_multiply(const Kernels& kernels, const Norm& norm, float eps, const Linear& layer, int width, const float* x,
                       int64_t x_stride, int m, const Own& own, int64_t own_stride, const Epilogue& after, float* y,
                       int64_t y_stride) {
    LayerNorm call;
    call.x = x;
    call.x_stride = x_stride;
    call.m = m;
    call.k = width;
    call.gamma = norm.gamma;
    call.beta = norm.beta;
    call.eps = eps;
    if (!layer.is_int8) {
        call.y = own.rows;
        call.y_stride = own_stride;
        kernels.layernorm(call);
        return multiply(kernels, layer, own.rows, own_stride, m, own, after, y, y_stride);
    }
    call.codes = own.codes;
    kernels.layernorm(call);
    multiply_codes(kernels, layer, m, own, after, y, y_stride);
}

bool Pass::class_only() const {
    return state.description.pooling == Pooling::class_token;
}

void Pass::work(int thread) {
    const VitDescription& d = state.description;
    const int64_t rows = int64_t{count} * d.tokens();
    const int64_t first = rows * thread / state.team.count(), last = rows * (thread + 1) / state.team.count();
    Own& own = state.arena.own[static_cast<size_t>(thread)];
    double* mine = seconds == nullptr ? nullptr : seconds + int64_t{thread} * kPhases;
    Clock clock(mine);
    embed(own, first, last);
    clock.add(kEmbed);
    for (int i = 0; i < d.depth; i++) {
        const VitLayer& layer = state.weights.layers[static_cast<size_t>(i)];
        norm_and_qkv(own, layer, first, last);
        clock.add(kQkv);
        state.team.barrier();
        clock.add(kWait);
        pack(own, thread);
        clock.add(kPack);
        state.team.barrier();
        clock.add(kWait);
        const bool is_last = i == d.depth - 1;
        attend(own, is_last, first, last);
        clock.add(kAttention);
        if (is_last && class_only()) {
            finish_class_tokens(own, layer, first, last, mine);
        } else {
            const int64_t step = strip_of(last - first);
            for (int64_t row = first; row < last; row += step) {
                finish_layer(own, layer,
                             {state.arena.x + row * d.width, d.width, state.arena.attention + row * d.attention(),
                              d.attention(), static_cast<int>(std::min<int64_t>(step, last - row))},
                             mine);
            }
        }
        clock = Clock(mine);
    }
    state.team.barrier();
    clock.add(kWait);
    for (int image = thread; image < count; image += state.team.count()) pool(own, image);
    clock.add(kPool);
}

// x = patches · W + position, behind the prefix; then CLIP's norm.
void Pass::embed(Own& own, int64_t first, int64_t last) {
    const VitDescription& d = state.description;
    const int64_t area = int64_t{d.size} * d.size;
    for (int64_t row = first; row < last;) {
        const int64_t image = row / d.tokens();
        const int token = static_cast<int>(row % d.tokens());
        float* x = state.arena.x + row * d.width;
        int m = 1;
        if (token < d.prefix) {
            std::memcpy(x, state.weights.prefix + int64_t{token} * d.width, static_cast<size_t>(d.width) * sizeof(float));
        } else {
            const int start = token - d.prefix;
            m = static_cast<int>(std::min<int64_t>({kStrip, last - row, d.patches() - start}));
            for (int i = 0; i < m; i++) {
                const int at = start + i;
                const float* corner =
                    prepared + image * d.channels * area + int64_t{at / d.grid()} * d.patch * d.size + at % d.grid() * d.patch;
                float* out = own.rows + i * state.arena.row_stride;
                for (int c = 0; c < d.channels; c++) {
                    for (int line = 0; line < d.patch; line++, out += d.patch) {
                        std::memcpy(out, corner + c * area + int64_t{line} * d.size,
                                    static_cast<size_t>(d.patch) * sizeof(float));
                    }
                }
            }
            Epilogue after;
            after.residual = state.weights.position + int64_t{start} * d.width;
            after.residual_stride = d.width;
            multiply(state.kernels, state.weights.patch, own.rows, state.arena.row_stride, m, own, after, x, d.width);
        }
        if (d.pre_norm) {
            LayerNorm call;
            call.x = call.y = x;
            call.x_stride = call.y_stride = d.width;
            call.m = m;
            call.k = d.width;
            call.gamma = state.weights.pre.gamma;
            call.beta = state.weights.pre.beta;
            call.eps = d.eps;
            state.kernels.layernorm(call);
        }
        row += m;
    }
}

void Pass::norm_and_qkv(Own& own, const VitLayer& layer, int64_t first, int64_t last) {
    const VitDescription& d = state.description;
    const int64_t stride = 3 * int64_t{d.attention()};
    const int64_t step = strip_of(last - first);
    for (int64_t row = first; row < last; row += step) {
        const int m = static_cast<int>(std::min<int64_t>(step, last - row));
        float* y = state.arena.qkv + row * stride;
        norm_and_multiply(state.kernels, layer.norm1, d.eps, layer.qkv, d.width, state.arena.x + row * d.width, d.width, m, own,
                          state.arena.row_stride, Epilogue(), y, stride);
        for (int head = 0; d.qk_norm && head < 2 * d.heads; head++) {  // queries, then keys
            const Norm& norm = head < d.heads ? layer.q_norm : layer.k_norm;
            LayerNorm call;
            call.x = call.y = y + int64_t{head} * d.head_width;
            call.x_stride = call.y_stride = stride;
            call.m = m;
            call.k = d.head_width;
            call.gamma = norm.gamma;
            call.beta = norm.beta;
            call.eps = d.eps;
            state.kernels.layernorm(call);
        }
    }
}

Attention Pass::head_of(Own& own, int image, int head) const {
    const VitDescription& d = state.description;
    const Arena& arena = state.arena;
    const int64_t row = int64_t{image} * d.tokens(), width = d.attention();
    Attention call;
    call.q = arena.qkv + row * 3 * width + int64_t{head} * d.head_width;
    call.k = call.q + width;
    call.v = call.k + width;
    call.stride = 3 * width;
    call.tokens = d.tokens();
    call.width = d.head_width;
    call.scale = 1.0f / std::sqrt(static_cast<float>(d.head_width));
    call.packed = arena.packed + (int64_t{image} * d.heads + head) * arena.packed_stride;
    call.scratch = own.scratch;
    call.y = arena.attention + row * width + int64_t{head} * d.head_width;
    call.y_stride = width;
    return call;
}

void Pass::pack(Own& own, int thread) {
    const VitDescription& d = state.description;
    for (int task = thread; task < count * d.heads; task += state.team.count()) {
        pack_attention(state.kernels, head_of(own, task / d.heads, task % d.heads), d.int8);
    }
}

void Pass::attend(Own& own, bool is_last, int64_t first, int64_t last) {
    const VitDescription& d = state.description;
    for (int64_t row = first; row < last;) {
        const int image = static_cast<int>(row / d.tokens());
        const int64_t start = int64_t{image} * d.tokens();
        const int from = static_cast<int>(row - start);
        const int stop = static_cast<int>(std::min<int64_t>(last - start, d.tokens()));
        const int to = is_last && class_only() ? std::min(stop, 1) : stop;  // nobody reads the others
        for (int head = 0; from < to && head < d.heads; head++) {
            Attention call = head_of(own, image, head);
            if (is_last && out.heat != nullptr && from == 0) {
                call.row0 = state.arena.heat + (int64_t{image} * d.heads + head) * state.arena.heat_stride;
            }
            edgefm::attend(state.kernels, call, d.int8, from, to);
        }
        row = start + stop;
    }
}

// x += proj(attention); x += fc2(gelu(fc1(norm2(x)))). LayerScale is in the weights.
void Pass::finish_layer(Own& own, const VitLayer& layer, const Strip& strip, double* mine) {
    const VitDescription& d = state.description;
    Clock clock(mine);
    Epilogue add;
    add.residual = strip.x;
    add.residual_stride = strip.x_stride;
    multiply(state.kernels, layer.proj, strip.attention, strip.attention_stride, strip.m, own, add, strip.x, strip.x_stride);
    clock.add(kProj);
    Epilogue activate;
    activate.activation = d.activation;
    activate.gamma = layer.hidden;
    norm_and_multiply(state.kernels, layer.norm2, d.eps, layer.fc1, d.width, strip.x, strip.x_stride, strip.m, own,
                      state.arena.row_stride, activate, own.hidden, d.hidden);
    multiply(state.kernels, layer.fc2, own.hidden, d.hidden, strip.m, own, add, strip.x, strip.x_stride);
    clock.add(kMlp);
}

// The last layer where only class tokens are read: row 0 of each image, one strip of rows that lie an image apart.
void Pass::finish_class_tokens(Own& own, const VitLayer& layer, int64_t first, int64_t last, double* mine) {
    const VitDescription& d = state.description;
    const int64_t from = (first + d.tokens() - 1) / d.tokens(), to = (last + d.tokens() - 1) / d.tokens();
    for (int64_t image = from; image < to; image += kStrip) {
        const int64_t row = image * d.tokens();
        finish_layer(own, layer,
                     {state.arena.x + row * d.width, int64_t{d.tokens()} * d.width, state.arena.attention + row * d.attention(),
                      int64_t{d.tokens()} * d.attention(), static_cast<int>(std::min<int64_t>(kStrip, to - image))},
                     mine);
    }
}

}  // namespace edgefm
