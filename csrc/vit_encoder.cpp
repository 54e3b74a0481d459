#include "vit_encoder.h"

#include <algorithm>
#include <stdexcept>

#include "shortened.h"
#include "vit_state.h"

namespace edgefm {
namespace {

constexpr int kMostThreads = 256, kMostImages = 4096;
constexpr size_t kLargestJson = 1 << 20;  // a description of the most layers takes half of it

int within(int value, int most, const char* what) {
    if (value >= 1 && value <= most) return value;
    throw std::invalid_argument(std::string(what) + " is " + std::to_string(value) + "; expected 1 to " + std::to_string(most));
}

Json parsed(const char* json, size_t size) {
    if (size <= kLargestJson) return Json::parse(json, size);
    throw std::invalid_argument("encoder.json: " + std::to_string(size) + " bytes; expected at most " +
                                std::to_string(kLargestJson));
}

const Kernels& table(const std::string& isa) {
    if (isa.empty()) return best_kernels();
    const Kernels* found = kernels(isa.c_str());
    if (found != nullptr) return *found;
    throw std::invalid_argument("this processor or this build has no kernels " + std::string(shortened(isa, 40)));
}

}  // namespace

Encoder::State::State(const Json& json, const uint8_t* bytes, size_t size, int threads, int most, const Kernels& table)
    : kernels(table),
      description(read_description(json)),
      weights(read_weights(json, description, bytes, size)),
      images(within(most, kMostImages, "images")),
      arena(description, kernels, images, within(threads, kMostThreads, "threads")),
      team(threads) {
    shape.channels = description.channels;
    shape.size = description.size;
    shape.embedding = description.embedding();
    shape.classes = description.classes;
    shape.grid = description.grid();
    shape.prefix = description.prefix;
    shape.class_token = description.class_token;
}

Encoder::Encoder(const char* json, size_t json_size, const uint8_t* weights, size_t size, int threads, int images,
                 const std::string& isa)
    : state_(new State(parsed(json, json_size), weights, size, threads, images, table(isa))) {}

Encoder::~Encoder() = default;

const EncoderShape& Encoder::shape() const {
    return state_->shape;
}

const char* Encoder::isa() const {
    return state_->kernels.name;
}

int64_t Encoder::bytes() const {
    return state_->arena.bytes;
}

void Encoder::run(const float* prepared, int count, const EncoderOutputs& out, double* seconds) const {
    state_->team.demand_here();  // before the lock, which a thread that a fork left behind may hold
    const std::lock_guard<std::mutex> held(state_->turn);
    const VitDescription& d = state_->description;
    for (int done = 0; done < count; done += state_->images) {
        const auto skip = [done](float* rows, int64_t width) { return rows == nullptr ? nullptr : rows + done * width; };
        Pass pass{*state_,
                  prepared + int64_t{done} * d.channels * d.size * d.size,
                  std::min(count - done, state_->images),
                  {},
                  seconds};
        pass.out.logits = skip(out.logits, d.classes);
        pass.out.embedding = skip(out.embedding, d.embedding());
        pass.out.heat = d.class_token ? skip(out.heat, d.patches()) : nullptr;
        state_->team.run([](void* context, int thread) { static_cast<Pass*>(context)->work(thread); }, &pass);
    }
}

}  // namespace edgefm
