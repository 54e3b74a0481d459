// An archive made good again after its members were changed: layout, checksums, chunk hashes and comment are made anew, as a
// careful attacker would. Not a writer of bundles: the manifest's other fields are taken as they are.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace edgefm {

using Files = std::vector<std::pair<std::string, std::string>>;  // names and data, manifest.json first

// The files of an archive, as far as it can be followed.
Files unpack(const std::string& archive);

// The archive of these files. The manifest's `entries` are listed anew if they can be found in it.
std::string pack(Files files);

}  // namespace edgefm
