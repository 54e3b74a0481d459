#include <algorithm>

#include "vit_state.h"

namespace edgefm {
namespace {

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
    packed_stride = round_up(static_cast<int64_t>(kernels.attention_packed(d.tokens(), d.head_width)), 64);
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
            each.scratch = pieces.take<uint8_t>(static_cast<int64_t>(kernels.attention_scratch(d.tokens(), d.head_width)));
        }
        return pieces.used();
    };
    const size_t bytes = static_cast<size_t>(lay_out(nullptr));
    memory_.reset(
        new uint8_t[bytes + 64]());  // zeros: what lies between rows is multiplied by zero weights, and must be finite
    lay_out(memory_.get() + (64 - reinterpret_cast<uintptr_t>(memory_.get()) % 64) % 64);
}

}  // namespace edgefm
