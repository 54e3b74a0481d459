// Does a session compute on this machine what its bundle says? edgefm/runtime/golden.py in C++, with its bounds.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "decide.h"
#include "npy.h"
#include "session.h"

namespace edgefm {
namespace {

// Of probabilities, and the least cosine of the embedding; 0: instead its largest difference in standard deviations.
struct Bounds {
    double probability, cosine;
};
constexpr Bounds kExact = {1e-3, 0.0}, kOwn = {0.01, 0.999}, kGross = {0.25, 0.9};

Npy array(const Bundle& bundle, const std::string& member) {
    const Bundle::View view = bundle.view(member);
    try {
        return read_npy(view.data, view.size);
    } catch (const std::invalid_argument& error) {
        throw BundleError(member + ": " + error.what());
    }
}

Pixels pixels_of(const Npy& npy, const std::string& member) {
    const bool flat = npy.shape.size() == 2;
    if (npy.kind == Npy::Kind::f32 || (!flat && npy.shape.size() != 3)) throw BundleError(member + " holds no pixels");
    const int64_t channels = flat ? 1 : npy.shape[2];
    // Sides first: an array without elements may have any others, and their product need not fit.
    if (npy.count == 0 || npy.shape[0] > kLongestSide || npy.shape[1] > kLongestSide || channels > 4) {
        throw BundleError(member + " holds no pixels that can be prepared");
    }
    Pixels pixels;
    pixels.data = npy.data;
    pixels.height = npy.shape[0];
    pixels.width = npy.shape[1];
    pixels.channels = static_cast<int>(channels);
    pixels.bits = npy.kind == Npy::Kind::u8 ? 8 : 16;
    pixels.stride = pixels.width * channels * (pixels.bits / 8);
    return pixels;
}

std::vector<float> expected_of(const Npy& npy, size_t count, const std::string& member) {
    if (npy.kind != Npy::Kind::f32 || npy.count != count) {
        throw BundleError(member + " holds " + std::to_string(npy.count) + " values", std::to_string(count) + " of float32");
    }
    std::vector<float> values(count);
    if (count != 0) std::memcpy(values.data(), npy.data, count * sizeof(float));
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
        throw BundleError(member + " holds values that are not finite");
    }
    return values;
}

// NaN stays: unlike std::fmax, which drops it.
double larger(double most, double value) {
    return value <= most || std::isnan(most) ? most : value;
}

double of_probabilities(const std::vector<float>& found, const std::vector<float>& expected, const Task& task) {
    std::vector<double> p(found.size()), q(found.size());
    probabilities(found.data(), task, p.data());
    probabilities(expected.data(), task, q.data());
    double most = 0.0;
    for (size_t k = 0; k < p.size(); ++k) most = larger(most, std::fabs(p[k] - q[k]));
    return most;
}

double in_deviations(const std::vector<float>& found, const std::vector<float>& expected) {
    double sum = 0.0, squares = 0.0, most = 0.0;
    for (const float value : expected) sum += value;
    const double mean = sum / static_cast<double>(expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
        squares += (expected[i] - mean) * (expected[i] - mean);
        most = larger(most, std::fabs(double{found[i]} - expected[i]));
    }
    return most / std::fmax(std::sqrt(squares / static_cast<double>(expected.size())), 1e-12);
}

double cosine(const std::vector<float>& found, const std::vector<float>& expected) {
    double product = 0.0, a = 0.0, b = 0.0;
    for (size_t i = 0; i < found.size(); ++i) {
        product += double{found[i]} * expected[i];
        a += double{found[i]} * found[i];
        b += double{expected[i]} * expected[i];
    }
    return product / std::fmax(std::sqrt(a) * std::sqrt(b), 1e-12);
}

// Whether there was something to compare with: what this variant answered where the bundle was made, not the graph of the other
// engines' int8 ("int8.logits"), whose arithmetic is another; else the fp32 model.
bool compare(const Session& session, const Golden& golden, const std::string& name, const std::vector<float>& found) {
    const std::string& precision = session.variant().precision;
    const std::string* member = nullptr;
    bool own = false;
    for (const auto& [key, file] : golden.outputs) {
        const bool mine = key == session.variant().name + "." + name;
        if (mine || (key == name && !own)) member = &file;
        own = own || mine;
    }
    if (member == nullptr) return false;
    const std::vector<float> expected = expected_of(array(session.bundle(), *member), found.size(), *member);
    const Bounds bounds = precision == "fp32" ? kExact : own ? kOwn : kGross;
    double off = 0.0, allowed = bounds.probability;
    if (name == "logits") {
        off = of_probabilities(found, expected, session.bundle().manifest().task);
    } else if (bounds.cosine == 0.0) {
        off = in_deviations(found, expected);
    } else {
        off = 1.0 - cosine(found, expected);
        allowed = 1.0 - bounds.cosine;
    }
    if (off <= allowed) return true;  // NaN is never within
    throw Failure(EDGEFM_ERROR_GOLDEN, name + " off by " + std::to_string(off) + " for the golden input " + golden.name +
                                           "; expected at most " + std::to_string(allowed));
}

}  // namespace

void check_golden(const Session& session) {
    const EncoderShape& shape = session.encoder().shape();
    std::vector<float> logits(static_cast<size_t>(shape.classes)), embedding(static_cast<size_t>(shape.embedding));
    edgefm_outputs outputs = {};
    outputs.logits = logits.data();
    outputs.embedding = embedding.data();
    size_t compared = 0;
    for (const Golden& golden : session.bundle().manifest().golden) {
        session.predict({pixels_of(array(session.bundle(), golden.pixels), golden.pixels)}, outputs);
        if (!logits.empty()) compared += compare(session, golden, "logits", logits);
        compared += compare(session, golden, "embedding", embedding);
    }
    if (compared == 0) throw Failure(EDGEFM_ERROR_GOLDEN, "the bundle holds no golden outputs to compare with");
}

}  // namespace edgefm
