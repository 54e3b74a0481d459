#include "bundle_names.h"

#include <algorithm>
#include <cstdint>

#include "bundle_error.h"

namespace edgefm {
namespace {

constexpr size_t kLongest = 255;
constexpr std::string_view kSingle[] = {kManifest, kLabels, kPreprocess, "preprocess.onnx", "card.md", "metadata.json"};

bool starts_with(std::string_view text, std::string_view start) {
    return text.substr(0, start.size()) == start;
}

bool is_letter(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

// [A-Za-z0-9_]([A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?
bool is_part(std::string_view part) {
    if (part.empty() || !is_letter(part.front()) || part.back() == '.') return false;
    return std::all_of(part.begin(), part.end(), [](char c) { return is_letter(c) || c == '.' || c == '+' || c == '-'; });
}

bool is_variant(std::string_view part) {
    const size_t dash = part.find('-');
    if (dash == std::string_view::npos) return false;
    const std::string_view engine = part.substr(0, dash), precision = part.substr(dash + 1);
    return (engine == "openvino" || engine == "onnx" || engine == "native") && (precision == "fp32" || precision == "int8");
}

bool may_be_held(std::string_view name) {
    if (std::find(std::begin(kSingle), std::end(kSingle), name) != std::end(kSingle)) return true;
    std::vector<std::string_view> parts;
    for (size_t at = 0;;) {
        const size_t slash = name.find('/', at);
        parts.push_back(name.substr(at, slash == std::string_view::npos ? slash : slash - at));
        if (slash == std::string_view::npos) break;
        at = slash + 1;
    }
    if (!std::all_of(parts.begin(), parts.end(), is_part)) return false;
    if (parts[0] == "variants") return parts.size() > 2 && is_variant(parts[1]);
    if (parts[0] == "adapters") return parts.size() > 2;
    return parts.size() > 1 && (parts[0] == "golden" || parts[0] == "licences" || is_appended(name));
}

std::string lower(std::string_view name) {
    std::string text(name);
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    return text;
}

// No name repeats another, and none is also a folder, capitals aside: a case-blind file system could not unpack the bundle.
void check_case_blind(const std::vector<std::string_view>& names) {
    std::vector<std::string> folded;
    folded.reserve(names.size());
    for (const std::string_view name : names) folded.push_back(lower(name));
    std::sort(folded.begin(), folded.end());
    const auto twice = std::adjacent_find(folded.begin(), folded.end());
    if (twice != folded.end()) throw BundleError("the name " + *twice + " comes twice (capitals are not told apart)");
    for (const std::string& name : folded) {
        for (size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
            const std::string folder = name.substr(0, slash);
            if (std::binary_search(folded.begin(), folded.end(), folder)) {
                throw BundleError(folder + " is a file and a folder at once");
            }
        }
    }
}

}  // namespace

std::string shown(std::string_view text) {
    std::string printable = "\"";
    for (const char c : text.substr(0, 60)) printable += c >= ' ' && c <= '~' ? c : '?';
    return printable + (text.size() > 60 ? "\"..." : "\"");
}

bool is_appended(std::string_view name) {
    return starts_with(name, "evidence/") || starts_with(name, "signatures/");
}

void check_names(const std::vector<std::string_view>& names) {
    for (const std::string_view name : names) {
        if (name.size() > kLongest || !may_be_held(name)) {
            throw BundleError("the name " + shown(name) + " has no place in a bundle");
        }
    }
    check_case_blind(names);
    if (names.front() != kManifest) throw BundleError("the first member is " + shown(names.front()), kManifest);
    for (size_t i = 1; i < names.size(); ++i) {
        const bool before = is_appended(names[i - 1]), now = is_appended(names[i]);
        if ((before && !now) || (i > 1 && !before && !now && names[i] < names[i - 1])) {
            throw BundleError("the name " + shown(names[i]) + " comes out of order");
        }
    }
}

}  // namespace edgefm
