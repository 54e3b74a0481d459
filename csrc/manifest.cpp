#include "manifest.h"

#include <algorithm>
#include <stdexcept>

#include "bundle_error.h"
#include "bundle_layout.h"
#include "canonical.h"
#include "fields.h"
#include "json.h"

namespace edgefm {
namespace {

void demand(bool right, const char* what) {
    if (!right) throw std::invalid_argument(what);
}

std::string one_of(const std::string& word, std::initializer_list<const char*> known, const char* what) {
    for (const char* each : known) {
        if (word == each) return word;
    }
    throw std::invalid_argument(std::string(what) + " is unknown");
}

// Text that callers get as a C string and print: a zero would end it, a line break or an escape would mislead.
std::string line(const std::string& text, const char* what) {
    const bool control = std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; });
    if (control) throw std::invalid_argument(std::string(what) + " holds a control character");
    return text;
}

Digest read_digest(const std::string& text) {
    demand(text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos, "a SHA-256 is none");
    const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
    Digest digest;
    for (size_t i = 0; i < 32; ++i) digest[i] = static_cast<uint8_t>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    return digest;
}

// A dictionary of numbers, of which nothing is kept.
void check_numbers(const Json* json, const char* what) {
    if (json == nullptr) return;
    for (const auto& [_, value] : json->object(what)) value.number(what);
}

void check_tensors(const Json& json) {
    for (const Json& each : json.array("a graph's inputs or outputs")) {
        const Fields fields(each, "a tensor", {"name", "dtype", "shape"});
        fields.string("name");
        if (fields.find("dtype") != nullptr) one_of(fields.string("dtype"), {"float32"}, "a dtype");
        for (const Json& side : fields["shape"].array("shape")) side.integer("shape");
    }
}

Variant read_variant(const Json& json) {
    const Fields fields(json, "a variant",
                        {"name", "engine", "precision", "graphs", "accuracy", "flips", "parity", "bf16", "evidence"});
    Variant variant;
    variant.name = fields.string("name");
    variant.engine = one_of(fields.string("engine"), {"openvino", "onnx", "native"}, "an engine");
    variant.precision = one_of(fields.string("precision"), {"fp32", "int8"}, "a precision");
    for (const auto& [name, graph] : fields["graphs"].object("graphs")) {
        const Fields parts(graph, "a graph", {"files", "inputs", "outputs"});
        variant.graphs.push_back({name, parts.strings("files")});
        check_tensors(parts["inputs"]);
        check_tensors(parts["outputs"]);
    }
    check_numbers(fields.find("accuracy"), "accuracy");
    check_numbers(fields.find("evidence"), "evidence");
    for (const char* key : {"flips", "parity"}) {
        if (const Json* value = fields.value(key)) value->number(key);
    }
    if (const Json* value = fields.value("bf16")) value->boolean("bf16");
    return variant;
}

Golden read_golden(const Json& json) {
    const Fields fields(json, "a golden input", {"name", "pixels", "outputs"});
    Golden golden;
    golden.name = fields.string("name");
    golden.pixels = fields.string("pixels");
    for (const auto& [name, member] : fields["outputs"].object("outputs"))
        golden.outputs.emplace_back(name, member.string("outputs"));
    return golden;
}

void check_ancestor(const Json& json) {
    const Fields fields(json, "an ancestor", {"role", "name", "licence", "sha256"});
    one_of(fields.string("role"), {"teacher", "student", "model", "data"}, "a role");
    fields.string("name");
    if (fields.find("licence") != nullptr) fields.string("licence");
    if (const Json* value = fields.value("sha256")) read_digest(value->string("sha256"));
}

Entry read_entry(const std::string& name, const Json& json) {
    const Fields fields(json, "an entry", {"size", "crc32", "chunks"});
    Entry entry;
    entry.name = name;
    entry.size = fields["size"].integer("size");
    entry.crc32 = fields["crc32"].integer("crc32");
    demand(entry.size >= 0 && entry.crc32 >= 0 && entry.crc32 <= 0xffffffff, "a size or a checksum is out of range");
    for (const Json& each : fields["chunks"].array("chunks")) entry.chunks.push_back(read_digest(each.string("chunks")));
    return entry;
}

// The labels that a task may have, and the thresholds that it then has.
void check_task(const Task& task) {
    const size_t count = task.labels.size();
    const bool right = task.kind == TaskKind::binary       ? count == 2
                       : task.kind == TaskKind::multiclass ? count >= 2
                       : task.kind == TaskKind::multilabel ? count >= 1
                                                           : count == 0;
    demand(right, "the task cannot have as many labels");
    for (const std::string& label : task.labels) line(label, "a label");
    std::vector<std::string> sorted = task.labels;
    std::sort(sorted.begin(), sorted.end());
    demand(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "labels repeat");
    const size_t wanted = task.kind == TaskKind::binary ? 1 : task.kind == TaskKind::multilabel ? count : 0;
    demand(task.thresholds.size() == wanted, "the task cannot have as many thresholds");
    for (const double threshold : task.thresholds) demand(threshold >= 0 && threshold <= 1, "a threshold is outside 0 to 1");
    demand(task.temperature > 0, "the temperature is not above 0");
}

Task read_task(const Json& json) {
    const Fields fields(json, "the task", {"kind", "labels", "thresholds", "temperature", "conformal"});
    static constexpr const char* kinds[] = {"binary", "multiclass", "multilabel", "embedding"};
    const std::string kind = one_of(fields.string("kind"), {kinds[0], kinds[1], kinds[2], kinds[3]}, "the task's kind");
    Task task;
    task.kind = static_cast<TaskKind>(std::find(std::begin(kinds), std::end(kinds), kind) - std::begin(kinds));
    if (fields.find("labels") != nullptr) task.labels = fields.strings("labels");
    if (fields.find("thresholds") != nullptr) task.thresholds = fields.numbers("thresholds");
    if (const Json* value = fields.find("temperature")) task.temperature = value->number("temperature");
    if (const Json* value = fields.find("conformal")) {
        const Fields parts(*value, "conformal", {"coverage", "quantile"});
        const double coverage = parts["coverage"].number("coverage"), quantile = parts["quantile"].number("quantile");
        demand(coverage > 0 && coverage < 1 && quantile >= 0 && quantile <= 1, "conformal is out of range");
        demand(task.kind == TaskKind::binary || task.kind == TaskKind::multiclass, "the task cannot have conformal sets");
    }
    check_task(task);
    return task;
}

}  // namespace

Manifest read_manifest(std::string_view text) {
    const Json json = Json::parse(text.data(), text.size());
    const int64_t format = json.at("format").integer("format");
    if (format > kFormat) throw newer_format(format);
    demand(format == kFormat, "the format is below 1");
    const Fields fields(
        json, "manifest.json",
        {"format", "name", "edgefm", "task", "variants", "golden", "lineage", "recipe", "versions", "refused", "entries"});
    check_canonical(json, text);
    Manifest manifest;
    manifest.name = line(fields.string("name"), "the name");
    fields.string("edgefm");
    manifest.task = read_task(fields["task"]);
    for (const Json& each : fields["variants"].array("variants")) manifest.variants.push_back(read_variant(each));
    if (const Json* value = fields.find("golden")) {
        for (const Json& each : value->array("golden")) manifest.golden.push_back(read_golden(each));
    }
    if (const Json* value = fields.find("lineage")) {
        for (const Json& each : value->array("lineage")) check_ancestor(each);
    }
    if (const Json* value = fields.find("recipe")) value->object("recipe");
    if (const Json* value = fields.find("versions")) {
        for (const auto& [_, version] : value->object("versions")) version.string("versions");
    }
    if (const Json* value = fields.value("refused")) manifest.refused = line(value->string("refused"), "refused");
    if (const Json* value = fields.find("entries")) {
        for (const auto& [name, entry] : value->object("entries")) manifest.entries.push_back(read_entry(name, entry));
    }
    return manifest;
}

PreprocessSpec read_preprocess(std::string_view text) {
    const Json json = Json::parse(text.data(), text.size());
    const Fields fields(json, "preprocess.json",
                        {"channels", "size", "resize", "resize_to", "filter", "window16", "mean", "std"});
    const int64_t channels = fields["channels"].integer("channels"), size = fields["size"].integer("size");
    const int64_t resize_to = fields["resize_to"].integer("resize_to");
    const std::string resize = one_of(fields.string("resize"), {"shorter", "squash"}, "resize");
    const std::string filter = one_of(fields.string("filter"), {"bicubic", "bilinear"}, "filter");
    const std::vector<double> window = fields.numbers("window16"), mean = fields.numbers("mean"), std = fields.numbers("std");
    demand(channels == 1 || channels == 3, "channels is not 1 or 3");
    demand(size >= 1 && resize_to >= size && resize_to <= 8192, "size and resize_to are out of range");
    demand(window.size() == 2 && window[0] >= -1e6 && window[1] <= 1e6 && window[1] - window[0] >= 1e-3,
           "window16 is out of range");
    const size_t count = static_cast<size_t>(channels);
    demand(mean.size() == count && std.size() == count, "mean and std need one value per channel");
    PreprocessSpec spec;
    for (size_t c = 0; c < count; ++c) {
        demand(mean[c] >= -1e6 && mean[c] <= 1e6 && std[c] >= 1e-6 && std[c] <= 1e6, "mean or std is out of range");
        spec.mean[c] = static_cast<float>(mean[c]);
        spec.std[c] = static_cast<float>(std[c]);
    }
    spec.channels = static_cast<int>(channels);
    spec.size = static_cast<int>(size);
    spec.squash = resize == "squash";
    spec.resize_to = static_cast<int>(resize_to);
    spec.bicubic = filter == "bicubic";
    spec.low = window[0];
    spec.high = window[1];
    // Stricter than in the manifest: every field must be there, and a float written as one.
    const auto list = [](const std::vector<double>& values) {
        std::string all;
        for (const double value : values) all += (all.empty() ? "[" : ",") + canonical_number(value);
        return all + "]";
    };
    const std::string written = "{\"channels\":" + std::to_string(channels) + ",\"filter\":\"" + filter +
                                "\",\"mean\":" + list(mean) + ",\"resize\":\"" + resize +
                                "\",\"resize_to\":" + std::to_string(resize_to) + ",\"size\":" + std::to_string(size) +
                                ",\"std\":" + list(std) + ",\"window16\":" + list(window) + "}";
    demand(written == text, "it is not canonical JSON");
    return spec;
}

}  // namespace edgefm
