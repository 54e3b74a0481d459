#include "vit_weights.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "int8_check.h"
#include "shortened.h"

namespace edgefm {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMostTensors = 1 << 16;

using Shape = std::vector<int64_t>;

std::string text(const Shape& shape) {
    std::string all = "[";
    for (const int64_t each : shape) all += (all.size() == 1 ? "" : ", ") + std::to_string(each);
    return all + "]";
}

struct Entry {
    std::string dtype;
    Shape shape;
    int64_t offset = 0;
    int64_t end = 0;  // once it was taken
    bool taken = false;
};

// The table of `encoder.json` over the bytes of `encoder.bin`.
class Tensors {
  public:
    Tensors(const Json& list, const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {
        if (reinterpret_cast<uintptr_t>(bytes) % kAlignment != 0) throw std::invalid_argument("encoder.bin: not at 64 bytes");
        if (list.array("tensors").size() > kMostTensors) throw std::invalid_argument("encoder.json: too many tensors");
        for (const Json& each : list.array("tensors")) {
            if (each.object("a tensor").size() != 4) throw std::invalid_argument("encoder.json: a tensor has not 4 fields");
            Entry entry;
            entry.dtype = each.at("dtype").string("dtype");
            entry.offset = each.at("offset").integer("offset");
            for (const Json& dim : each.at("shape").array("shape")) entry.shape.push_back(dim.integer("shape"));
            const std::string& name = each.at("name").string("name");
            if (!entries_.emplace(name, std::move(entry)).second) wrong(name, "is there twice", "once");
        }
    }

    const float* floats(const std::string& name, const Shape& shape) {
        return reinterpret_cast<const float*>(take(name, "float32", shape, sizeof(float)));
    }
    const int8_t* bytes(const std::string& name, const Shape& shape) {
        return reinterpret_cast<const int8_t*>(take(name, "int8", shape, 1));
    }
    const int32_t* integers(const std::string& name, const Shape& shape) {
        return reinterpret_cast<const int32_t*>(take(name, "int32", shape, sizeof(int32_t)));
    }

    // Throws if a tensor is left that nobody asked for: then the description is not of this architecture. And if two share
    // bytes, so that a small file cannot describe a large model.
    void finish() const {
        std::vector<std::pair<int64_t, const std::string*>> places;
        for (const auto& [name, entry] : entries_) {
            if (!entry.taken) wrong(name, "belongs to no layer", "none beyond what the architecture has");
            places.emplace_back(entry.offset, &name);
        }
        std::sort(places.begin(), places.end());
        for (size_t i = 1; i < places.size(); i++) {
            const std::string& before = *places[i - 1].second;
            if (entries_.at(before).end > places[i].first) {
                wrong(*places[i].second, "shares bytes with " + std::string(shortened(before, 80)), "one after the other");
            }
        }
    }

  private:
    [[noreturn]] static void wrong(const std::string& name, const std::string& found, const std::string& expected) {
        throw std::invalid_argument("encoder.json: tensor " + std::string(shortened(name, 80)) + " " + found + "; expected " +
                                    expected);
    }

    // The shape is made of numbers that `read_description` has bounded, so its product cannot overflow.
    const uint8_t* take(const std::string& name, const char* dtype, const Shape& shape, int64_t item) {
        const auto found = entries_.find(name);
        if (found == entries_.end()) wrong(name, "is missing", text(shape));
        Entry& entry = found->second;
        if (entry.dtype != dtype) wrong(name, "is " + std::string(shortened(entry.dtype, 40)), dtype);
        if (entry.shape != shape) wrong(name, "has the shape " + text(entry.shape), text(shape));
        int64_t length = item;
        for (const int64_t each : shape) length *= each;
        const int64_t size = static_cast<int64_t>(size_);
        if (entry.offset < 0 || entry.offset % static_cast<int64_t>(kAlignment) != 0 || length > size ||
            entry.offset > size - length) {
            wrong(name, "begins at " + std::to_string(entry.offset),
                  "a multiple of 64 with " + std::to_string(length) + " bytes before " + std::to_string(size));
        }
        entry.end = entry.offset + length;
        entry.taken = true;
        return bytes_ + entry.offset;
    }

    const uint8_t* bytes_;
    size_t size_;
    std::map<std::string, Entry> entries_;
};

Norm norm(Tensors& tensors, const std::string& name, int width) {
    return {tensors.floats(name + ".gamma", {width}), tensors.floats(name + ".beta", {width})};
}

Linear linear(Tensors& tensors, const std::string& name, int n, int k, bool is_int8, bool bias = true) {
    const int64_t columns = round_up(n, kColumns);
    Linear made;
    made.is_int8 = is_int8;
    const float* added = bias ? tensors.floats(name + ".bias", {columns}) : nullptr;
    if (is_int8) {
        made.int8.weight =
            tensors.bytes(name + ".weight", {columns / kColumns, round_up(k, kGroup) / kGroup, kColumns, kGroup});
        made.int8.scale = tensors.floats(name + ".scale", {columns});
        made.int8.sum = tensors.integers(name + ".sum", {columns});
        made.int8.bias = added;
        made.int8.n = n;
        made.int8.k = k;
    } else {
        made.fp32 = {tensors.floats(name + ".weight", {columns / kColumns, k, kColumns}), added, n, k};
    }
    return made;
}

void check_codes(const std::string& name, const Linear& layer) {
    const std::string wrong = layer.is_int8 ? wrong_codes(layer.int8) : "";
    if (!wrong.empty()) throw std::invalid_argument("encoder.bin: tensor " + name + ".weight " + wrong);
}

}  // namespace

VitWeights read_weights(const Json& json, const VitDescription& d, const uint8_t* bytes, size_t size) {
    Tensors tensors(json.at("tensors"), bytes, size);
    VitWeights made;
    if (d.prefix > 0) made.prefix = tensors.floats("prefix", {d.prefix, d.width});
    made.position = tensors.floats("position", {d.patches(), d.width});
    made.patch = linear(tensors, "patch", d.width, d.pixels(), d.patch_int8, false);
    if (d.pre_norm) made.pre = norm(tensors, "pre_norm", d.width);
    const int gates = d.activation == Activation::swiglu ? 2 : 1;
    for (int i = 0; i < d.depth; i++) {
        const std::string at = "layers." + std::to_string(i) + ".";
        VitLayer layer;
        layer.norm1 = norm(tensors, at + "norm1", d.width);
        layer.qkv = linear(tensors, at + "qkv", 3 * d.attention(), d.width, d.int8);
        if (d.qk_norm) {
            layer.q_norm = norm(tensors, at + "q_norm", d.head_width);
            layer.k_norm = norm(tensors, at + "k_norm", d.head_width);
        }
        layer.proj = linear(tensors, at + "proj", d.width, d.attention(), d.int8);
        layer.norm2 = norm(tensors, at + "norm2", d.width);
        layer.fc1 = linear(tensors, at + "fc1", gates * d.hidden, d.width, d.int8);
        layer.fc2 = linear(tensors, at + "fc2", d.width, d.hidden, d.int8);
        if (d.int8 && gates == 1) layer.hidden = tensors.floats(at + "hidden", {round_up(d.hidden, kColumns)});
        made.layers.push_back(layer);
    }
    if (d.final_norm != FinalNorm::none) {
        made.last = norm(tensors, "final_norm", d.final_norm == FinalNorm::pooled ? d.pooled() : d.width);
    }
    if (d.projection > 0) made.projection = linear(tensors, "projection", d.projection, d.pooled(), false);
    if (d.classes > 0) made.head = linear(tensors, "head", d.classes, d.embedding(), false);
    made.patch.same_bits = made.projection.same_bits = made.head.same_bits = d.int8;
    tensors.finish();
    check_codes("patch", made.patch);
    for (int i = 0; i < d.depth; i++) {
        const std::string at = "layers." + std::to_string(i) + ".";
        const VitLayer& layer = made.layers[static_cast<size_t>(i)];
        check_codes(at + "qkv", layer.qkv);
        check_codes(at + "proj", layer.proj);
        check_codes(at + "fc1", layer.fc1);
        check_codes(at + "fc2", layer.fc2);
    }
    return made;
}

}  // namespace edgefm
