#include "vit_description.h"

#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "attention_long.h"
#include "shortened.h"

namespace edgefm {
namespace {

constexpr int kFormat = 1;

[[noreturn]] void refuse(const std::string& found, const std::string& expected) {
    throw std::invalid_argument("encoder.json: " + found + "; expected " + expected);
}

int whole(const Json& object, const char* key, int64_t least, int64_t most) {
    const int64_t value = object.at(key).integer(key);
    if (value < least || value > most) {
        refuse(std::string(key) + " is " + std::to_string(value), std::to_string(least) + " to " + std::to_string(most));
    }
    return static_cast<int>(value);
}

bool flag(const Json& object, const char* key) {
    return object.at(key).boolean(key);
}

// The position of the word among those that are known.
int word(const Json& object, const char* key, std::initializer_list<const char*> known) {
    const std::string& found = object.at(key).string(key);
    std::string all;
    int index = 0;
    for (const char* each : known) {
        if (found == each) return index;
        all += (index++ == 0 ? "" : ", ") + std::string(each);
    }
    refuse(std::string(key) + " is \"" + std::string(shortened(found, 40)) + "\"", "one of " + all);
}

void only(const Json& object, const char* what, size_t count) {
    const size_t found = object.object(what).size();
    if (found != count) refuse(std::string(what) + " has " + std::to_string(found) + " fields", std::to_string(count));
}

}  // namespace

VitDescription read_description(const Json& json) {
    only(json, "the document", 3);
    if (whole(json, "format", 1, INT32_MAX) > kFormat) refuse("a newer format", "1; upgrade EdgeFM");
    const Json& from = json.at("architecture");
    only(from, "architecture", 20);
    VitDescription d;
    d.int8 = word(from, "precision", {"fp32", "int8"}) == 1;
    d.patch_int8 = word(from, "patch_precision", {"fp32", "int8"}) == 1;
    d.channels = whole(from, "channels", 1, 4);
    d.size = whole(from, "size", 1, 8192);
    d.patch = whole(from, "patch", 1, 256);
    d.width = whole(from, "width", 8, 16384);
    d.depth = whole(from, "depth", 1, 256);
    d.heads = whole(from, "heads", 1, 256);
    d.head_width = whole(from, "head_width", 32, 128);
    d.hidden = whole(from, "hidden", 1, 65536);
    d.prefix = whole(from, "prefix", 0, 256);
    d.class_token = flag(from, "class_token");
    d.pre_norm = flag(from, "pre_norm");
    d.qk_norm = flag(from, "qk_norm");
    const double eps = from.at("eps").number("eps");
    d.eps = eps > 0.0 && eps <= 1.0 ? static_cast<float>(eps) : 0.0f;
    if (!(d.eps > 0.0f)) refuse("eps is out of range", "more than 0 as float32, at most 1");
    d.activation = static_cast<Activation>(1 + word(from, "activation", {"gelu", "gelu_tanh", "swiglu"}));
    d.final_norm = static_cast<FinalNorm>(word(from, "final_norm", {"none", "tokens", "pooled"}));
    d.pooling = static_cast<Pooling>(word(from, "pooling", {"class", "mean", "class+mean"}));
    d.projection = whole(from, "projection", 0, 65536);
    d.classes = whole(from, "classes", 0, 1 << 20);

    if (d.patch > d.size) refuse("patch is " + std::to_string(d.patch), "at most size, " + std::to_string(d.size));
    if (d.head_width % 8 != 0) refuse("head_width is " + std::to_string(d.head_width), "a multiple of 8");
    if (d.class_token && d.prefix < 1) refuse("class_token without a prefix", "prefix of at least 1");
    if (!d.class_token && d.pooling != Pooling::mean) refuse("pooling of a class token that is not there", "mean");
    if (d.activation == Activation::swiglu && d.hidden % kColumns != 0) {
        refuse("hidden is " + std::to_string(d.hidden), "a multiple of 16 with swiglu");
    }
    const int64_t tokens = d.prefix + int64_t{d.grid()} * d.grid();
    if (tokens > kMostTokens) refuse(std::to_string(tokens) + " tokens", "at most " + std::to_string(kMostTokens));
    if (int64_t{d.channels} * d.patch * d.patch > 65536) refuse("patches of more than 65536 values", "at most that many");
    if (d.patch_int8 && !d.int8) refuse("patch_precision is int8", "fp32, as precision is");
    return d;
}

}  // namespace edgefm
