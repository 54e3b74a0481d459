// A libFuzzer target: whatever the bytes are, opening them as a bundle, as JSON, as an array and as an encoder's description
// ends in a session or in an error. With mutate_members.cpp linked in, the bytes get behind the digests.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "canonical.h"
#include "include/edgefm.h"
#include "json.h"
#include "npy.h"
#include "vit_encoder.h"

namespace {

struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
};

// Aligned as in a bundle, and ending where the allocation ends, so that one byte too far is seen.
std::unique_ptr<uint8_t, Free> aligned(const uint8_t* data, size_t size) {
    void* room = nullptr;
    if (posix_memalign(&room, 64, size + (size == 0)) != 0) std::abort();
    if (size != 0) std::memcpy(room, data, size);
    return std::unique_ptr<uint8_t, Free>(static_cast<uint8_t*>(room));
}

template <typename Work>
void allowed_to_refuse(Work work) {
    try {
        work();
    } catch (const std::invalid_argument&) {
    }
}

void ask(edgefm_session* session) {
    edgefm_description about = {};
    about.struct_size = sizeof about;
    if (edgefm_describe(session, &about, nullptr) != EDGEFM_OK) std::abort();
    if (about.size > 64) return;  // time is better spent on other bytes
    const uint8_t pixels[12] = {0, 255, 3, 200, 90, 17, 1, 2, 3, 4, 5, 6};
    edgefm_image image = {};
    image.struct_size = sizeof image;
    image.pixels = pixels;
    image.width = 3;
    image.height = 2;
    image.channels = 1;
    image.bits = 16;
    // Rooms of just the size, so that one value too many is seen.
    const size_t labels = static_cast<size_t>(about.labels_count), side = static_cast<size_t>(about.heat_side);
    std::vector<float> logits(labels), probabilities(labels), heat(side * side);
    std::vector<float> embedding(static_cast<size_t>(about.embedding_size));
    std::vector<uint8_t> decisions(labels);
    edgefm_outputs outputs = {};
    outputs.struct_size = sizeof outputs;
    outputs.logits = labels != 0 ? logits.data() : nullptr;
    outputs.probabilities = labels != 0 ? probabilities.data() : nullptr;
    outputs.decisions = labels != 0 ? decisions.data() : nullptr;
    outputs.embedding = embedding.data();
    outputs.heat = side != 0 ? heat.data() : nullptr;
    const edgefm_status status = edgefm_predict(session, &image, 1, &outputs, nullptr);
    if (status == EDGEFM_ERROR_ARGUMENT || status == EDGEFM_ERROR_INTERNAL) std::abort();
    edgefm_check(session, nullptr);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    edgefm_options options = {};
    options.struct_size = sizeof options;
    options.threads = size % 2 == 0 ? 1 : 2;
    options.allow_refused = 1;
    edgefm_error error = {};
    error.struct_size = sizeof error;
    const auto copy = aligned(data, size);
    edgefm_session* session = nullptr;
    const edgefm_status status = edgefm_open_memory(copy.get(), size, &options, &session, &error);
    if ((status == EDGEFM_OK) != (session != nullptr) || (status != EDGEFM_OK) != (error.message[0] != '\0')) std::abort();
    if (status == EDGEFM_ERROR_INTERNAL) std::abort();
    if (session != nullptr) ask(session);
    edgefm_close(session);

    const std::string_view text(reinterpret_cast<const char*>(copy.get()), size);
    allowed_to_refuse([&] { edgefm::check_canonical(edgefm::Json::parse(text.data(), size), text); });
    allowed_to_refuse([&] { edgefm::read_npy(copy.get(), size); });
    // A description, a zero byte, and weights.
    const size_t end = text.find('\0');
    if (end != std::string_view::npos) {
        const auto weights = aligned(data + end + 1, size - end - 1);
        allowed_to_refuse([&] { edgefm::Encoder(text.data(), end, weights.get(), size - end - 1, 1, 1); });
    }
    return 0;
}
