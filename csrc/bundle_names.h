// Which names a bundle may hold, and in which order (docs/efm-format.md, "What is inside").
// Not the bytes of the archive (bundle_layout.h), and not whether the manifest lists a name (bundle.cpp).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace edgefm {

constexpr char kManifest[] = "manifest.json", kLabels[] = "labels.json", kPreprocess[] = "preprocess.json";

// Whether this member may be added later, outside the bundle id.
bool is_appended(std::string_view name);

// Throws BundleError unless these are the names of a bundle in its order.
void check_names(const std::vector<std::string_view>& names);

// A text that was not checked, for messages: printable ASCII in quotes, at most 60 characters of it.
std::string shown(std::string_view text);

}  // namespace edgefm
