#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include "attention_long.h"
#include "vit_state.h"

namespace edgefm {
namespace {

constexpr int64_t kMostBytes = int64_t{2} << 30;

// Hands out pieces at multiples of 64 bytes; without memory it only counts them.
class Pieces {
  public:
    explicit Pieces(uint8_t* memory) : memory_(memory) {}

    template <typename T>
    T* take(int64_t count) {
        const int64_t at = used_;
        used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
        return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + at);
    }
    int64_t used() const { return used_; }

  private:
    uint8_t* memory_;
    int64_t used_ = 0;
};

}  // namespace

Arena::Arena(const VitDescription& d, const Kernels& kernels, int images, int threads) : own(static_cast<size_t>(threads)) {
    const int64_t rows = int64_t{images} * d.tokens();
    const int64_t widest = std::max({d.width, d.pixels(), d.attention(), d.hidden, d.pooled()});
    packed_stride = attention_packed(kernels, d.tokens(), d.head_width, d.int8);
    heat_stride = round_up(d.tokens(), 16);
    row_stride = round_up(std::max({d.width, d.pixels(), d.pooled()}), 16);
    const auto lay_out = [&](uint8_t* memory) {
        Pieces pieces(memory);
        x = pieces.take<float>(rows * d.width);
        qkv = pieces.take<float>(rows * 3 * d.attention());
        attention = pieces.take<float>(rows * d.attention());
        packed = pieces.take<uint8_t>(int64_t{images} * d.heads * packed_stride);
        heat = pieces.take<float>(int64_t{images} * d.heads * heat_stride);
        pooled = pieces.take<float>(int64_t{images} * d.pooled());
        embedding = pieces.take<float>(int64_t{images} * d.embedding());
        for (Own& each : own) {
            each.rows = pieces.take<float>(kStrip * row_stride);
            each.hidden = pieces.take<float>(int64_t{kStrip} * d.hidden);
            each.codes.stride = round_up(widest, 64);
            each.codes.code = pieces.take<uint8_t>(kStrip * each.codes.stride);
            each.codes.scale = pieces.take<float>(kStrip);
            each.scratch = pieces.take<uint8_t>(attention_scratch(kernels, d.tokens(), d.head_width, d.int8));
        }
        return pieces.used();
    };
    // All that it is made of is bounded (vit_description.cpp, vit_encoder.cpp), so that this cannot overflow.
    bytes = lay_out(nullptr);
    if (bytes > kMostBytes) {
        throw std::invalid_argument("its activations take " + std::to_string(bytes >> 20) + " MiB, of " +
                                    std::to_string(images) + " images at a time and " + std::to_string(threads) +
                                    " threads; expected at most " + std::to_string(kMostBytes >> 20) +
                                    " MiB; run fewer at a time");
    }
    // Zeros, since what lies between rows is multiplied by zero weights and must be finite; as fresh pages where they are many.
    memory_.reset(static_cast<uint8_t*>(std::calloc(static_cast<size_t>(bytes) + 64, 1)));
    if (memory_ == nullptr) throw std::bad_alloc();
    lay_out(memory_.get() + (64 - reinterpret_cast<uintptr_t>(memory_.get()) % 64) % 64);
}

}  // namespace edgefm
