// Every byte of a bundle outside its members, held to what names, sizes and checksums make of it.
// Not a ZIP library: it reads only what EdgeFM writes. docs/efm-format.md, "Layout", is this file in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sha256.h"

namespace edgefm {

// One archive member: what the directory says of it, and where its header and its data begin and its data end.
struct Member {
    std::string_view name;
    uint32_t size = 0, crc32 = 0;
    size_t header = 0, start = 0, stop = 0;
};

// Checks 1 and 2 of docs/efm-format.md, "Reading": end and layout. The digests of the comment and the members' data are not
// looked at. Names are views of `data`. Throws BundleError.
std::vector<Member> read_layout(const uint8_t* data, size_t size);

// The archive comment for these two digests.
std::string comment(const Digest& manifest, const Digest& appended);

constexpr int64_t kFormat = 1;
constexpr size_t kEndRecord = 22, kComment = 185;

}  // namespace edgefm
