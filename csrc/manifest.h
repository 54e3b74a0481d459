// manifest.json and preprocess.json as structs: edgefm/spec/manifest.py, task.py and preprocess.py in C++.
// Not the archive (bundle_layout.h), and not whether the members are there (bundle.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "preprocess.h"
#include "sha256.h"

namespace edgefm {

enum class TaskKind { binary, multiclass, multilabel, embedding };

struct Task {
    TaskKind kind = TaskKind::embedding;
    std::vector<std::string> labels;  // in the order of the logits
    std::vector<double> thresholds;   // one for binary, one per label for multilabel, else none
    double temperature = 1.0;
};

struct Graph {
    std::string name;
    std::vector<std::string> files;
};

struct Variant {
    std::string name, engine, precision;
    std::vector<Graph> graphs;
};

struct Golden {
    std::string name, pixels;
    std::vector<std::pair<std::string, std::string>> outputs;  // name to member
};

struct Entry {
    std::string name;
    int64_t size = 0, crc32 = 0;
    std::vector<Digest> chunks;  // SHA-256 of each MiB
};

struct Manifest {
    std::string name;
    Task task;
    std::vector<Variant> variants;
    std::vector<Golden> golden;
    std::optional<std::string> refused;
    std::vector<Entry> entries;  // by name, ascending
};

// Both hold the JSON to its canonical form and the struct to its rules. Throw BundleError, or std::invalid_argument with what
// is wrong.
Manifest read_manifest(std::string_view text);
PreprocessSpec read_preprocess(std::string_view text);

}  // namespace edgefm
