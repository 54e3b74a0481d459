#include "session.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "decide.h"
#include "shortened.h"

namespace edgefm {
namespace {

constexpr int64_t kFarthestRow = int64_t{1} << 38;  // bytes: the last of kLongestSide rows has an offset that fits into int64

const Variant& choose(const Manifest& manifest, const std::string& asked) {
    for (const char* name : {"native-int8", "native-fp32"}) {
        if (!asked.empty() && asked != name) continue;
        for (const Variant& variant : manifest.variants) {
            if (variant.name == name) return variant;
        }
    }
    std::string there;
    for (const Variant& variant : manifest.variants) there += (there.empty() ? "" : ", ") + variant.name;
    throw Failure(EDGEFM_ERROR_VARIANT, "it has no variant " +
                                            (asked.empty() ? "native-int8 or native-fp32" : std::string(shortened(asked, 40))) +
                                            " that this library runs; it holds " + there);
}

std::unique_ptr<const Encoder> load(const Bundle& bundle, const Variant& variant, const SessionOptions& options) {
    const auto graph =
        std::find_if(variant.graphs.begin(), variant.graphs.end(), [](const Graph& g) { return g.name == "encoder"; });
    if (graph == variant.graphs.end() || graph->files.size() != 2) {
        throw BundleError(variant.name + " has no graph encoder of two files");
    }
    const Bundle::View json = bundle.view(graph->files[0]), weights = bundle.view(graph->files[1]);
    try {
        return std::make_unique<Encoder>(reinterpret_cast<const char*>(json.data), json.size, weights.data, weights.size,
                                         options.threads, options.images);
    } catch (const std::invalid_argument& error) {
        throw BundleError(variant.name + " cannot be run: " + error.what());
    }
}

// The kernels of preprocessing, capped as the encoder's are by EDGEFM_ISA.
Isa preparation() try {
    const char* cap = std::getenv("EDGEFM_ISA");
    return preprocess_isa(cap == nullptr ? "" : cap);
} catch (const std::invalid_argument& error) {
    throw Failure(EDGEFM_ERROR_ARGUMENT, std::string("EDGEFM_ISA: ") + error.what());
}

template <typename Number>
void demand_finite(const Number* values, size_t count, const char* what) {
    if (std::all_of(values, values + count, [](Number value) { return std::isfinite(value); })) return;
    throw Failure(EDGEFM_ERROR_ANSWER, std::string("the model's ") + what + " are not finite; do not use this answer");
}

}  // namespace

Session::Session(std::unique_ptr<const Bundle> bundle, const SessionOptions& options)
    : bundle_(std::move(bundle)), threads_(options.threads), images_(options.images) {
    const Manifest& manifest = bundle_->manifest();
    if (manifest.refused && !options.allow_refused) {
        throw Failure(EDGEFM_ERROR_REFUSED, "the bundle is marked as refused: " + *manifest.refused);
    }
    variant_ = &choose(manifest, options.variant);
    isa_ = preparation();
    encoder_ = load(*bundle_, *variant_, options);
    const EncoderShape& shape = encoder_->shape();
    const PreprocessSpec& spec = bundle_->preprocess();
    if (shape.channels != spec.channels || shape.size != spec.size) {
        throw BundleError(variant_->name + " takes other images than preprocess.json makes");
    }
    if (static_cast<size_t>(shape.classes) != manifest.task.labels.size()) {
        throw BundleError(variant_->name + " has " + std::to_string(shape.classes) + " logits",
                          std::to_string(manifest.task.labels.size()) + ", one per label");
    }
    for (const std::string& label : manifest.task.labels) labels_.push_back(label.c_str());
}

void Session::prepare(const Pixels& pixels, size_t number, float* out) const {
    const std::string wrong = check(bundle_->preprocess(), pixels);
    if (!wrong.empty()) throw Failure(EDGEFM_ERROR_IMAGE, "image " + std::to_string(number) + ": " + wrong);
    const int64_t row = pixels.width * pixels.channels * (pixels.bits / 8);
    const bool overlap = pixels.stride < row && pixels.stride > -row;
    if (pixels.height > 1 && (overlap || pixels.stride > kFarthestRow || pixels.stride < -kFarthestRow)) {
        throw Failure(EDGEFM_ERROR_IMAGE, "image " + std::to_string(number) + ": its rows of " + std::to_string(row) +
                                              " bytes overlap or lie too far apart, the stride is " +
                                              std::to_string(pixels.stride));
    }
    preprocess(bundle_->preprocess(), pixels, threads_, isa_, out);
}

// Outputs of image `number` of the call, from its logits.
void Session::decide_one(const float* logits, size_t number, const edgefm_outputs& outputs) const {
    const Task& task = bundle_->manifest().task;
    const size_t count = task.labels.size();
    demand_finite(logits, count, "logits");
    std::vector<double> likely(count);
    probabilities(logits, task, likely.data());
    demand_finite(likely.data(), count, "probabilities");
    if (outputs.logits != nullptr) std::copy(logits, logits + count, outputs.logits + number * count);
    if (outputs.probabilities != nullptr) {
        float* out = outputs.probabilities + number * count;
        for (size_t k = 0; k < count; ++k) out[k] = static_cast<float>(likely[k]);
    }
    if (outputs.decisions != nullptr) decide(likely.data(), task, outputs.decisions + number * count);
}

void Session::predict(const std::vector<Pixels>& pixels, const edgefm_outputs& outputs) const {
    const EncoderShape& shape = encoder_->shape();
    const size_t most = std::min(pixels.size(), static_cast<size_t>(images_)), classes = static_cast<size_t>(shape.classes);
    const size_t input =
        static_cast<size_t>(shape.channels) * static_cast<size_t>(shape.size) * static_cast<size_t>(shape.size);
    const size_t width = static_cast<size_t>(shape.embedding),
                 cells = static_cast<size_t>(shape.grid) * static_cast<size_t>(shape.grid);
    std::vector<float> prepared(most * input), logits(most * classes);
    for (size_t done = 0; done < pixels.size(); done += most) {
        const size_t count = std::min(most, pixels.size() - done);
        for (size_t i = 0; i < count; ++i) prepare(pixels[done + i], done + i, prepared.data() + i * input);
        EncoderOutputs out;
        out.logits = classes != 0 ? logits.data() : nullptr;
        out.embedding = outputs.embedding != nullptr ? outputs.embedding + done * width : nullptr;
        out.heat = outputs.heat != nullptr ? outputs.heat + done * cells : nullptr;
        encoder_->run(prepared.data(), static_cast<int>(count), out);
        if (out.embedding != nullptr) demand_finite(out.embedding, count * width, "embedding's values");
        if (out.heat != nullptr) demand_finite(out.heat, count * cells, "heat map's values");
        for (size_t i = 0; i < count && classes != 0; ++i) decide_one(logits.data() + i * classes, done + i, outputs);
    }
}

}  // namespace edgefm
