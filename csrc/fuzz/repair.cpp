#include "repair.h"

#include <algorithm>
#include <cstdint>

#include "bundle_layout.h"
#include "bundle_names.h"
#include "canonical.h"
#include "crc32.h"
#include "sha256.h"

namespace edgefm {
namespace {

constexpr size_t kChunk = 1 << 20;

const uint8_t* bytes(const std::string& text) {
    return reinterpret_cast<const uint8_t*>(text.data());
}

uint32_t read(const std::string& text, size_t at, int count) {
    uint32_t value = 0;
    for (int i = count; i-- > 0;) value = value << 8 | bytes(text)[at + static_cast<size_t>(i)];
    return value;
}

std::string number(uint64_t value, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += static_cast<char>(value >> 8 * i & 0xff);
    return text;
}

std::string shared(const std::string& name, const std::string& data) {
    const uint64_t size = data.size();
    return number(20, 2) + number(0, 6) + number(0x21, 2) + number(crc32(bytes(data), data.size()), 4) + number(size, 4) +
           number(size, 4) + number(name.size(), 2);
}

std::string entries(const Files& files) {
    std::string listed;
    for (const auto& [name, data] : files) {
        if (name == kManifest || is_appended(name)) continue;
        std::string chunks;
        for (size_t at = 0; at < data.size(); at += kChunk) {
            chunks += chunks.empty() ? "\"" : ",\"";
            chunks += hexadecimal(sha256(bytes(data) + at, std::min(kChunk, data.size() - at))) + "\"";
        }
        listed += (listed.empty() ? "" : ",") + canonical_string(name) + ":{\"chunks\":[" + chunks +
                  "],\"crc32\":" + std::to_string(crc32(bytes(data), data.size())) +
                  ",\"size\":" + std::to_string(data.size()) + "}";
    }
    return "{" + listed + "}";
}

// The manifest with the value of its first "entries" replaced.
std::string with_entries(const std::string& manifest, const std::string& listed) {
    const std::string key = "\"entries\":";
    const size_t begin = manifest.find(key);
    if (begin == std::string::npos) return manifest;
    size_t end = begin + key.size();
    int depth = 0;
    for (; end < manifest.size(); ++end) {
        depth += manifest[end] == '{';
        depth -= manifest[end] == '}';
        if (depth <= 0) break;
    }
    return manifest.substr(0, begin + key.size()) + listed + manifest.substr(std::min(end + 1, manifest.size()));
}

}  // namespace

Files unpack(const std::string& archive) {
    Files files;
    for (size_t at = 0; at + 30 <= archive.size() && archive.compare(at, 4, "PK\3\4") == 0;) {
        const size_t length = read(archive, at + 26, 2), extra = read(archive, at + 28, 2), size = read(archive, at + 22, 4);
        const size_t start = at + 30 + length + extra;
        if (start > archive.size() || size > archive.size() - start) break;
        files.emplace_back(archive.substr(at + 30, length), archive.substr(start, size));
        at = start + size;
    }
    return files;
}

std::string pack(Files files) {
    if (!files.empty()) files[0].second = with_entries(files[0].second, entries(files));
    std::string archive, directory;
    size_t appended = std::string::npos;
    for (const auto& [name, data] : files) {
        const size_t header = archive.size(), start = (header + 30 + name.size() + 6 + 63) / 64 * 64;
        const size_t extra = start - header - 30 - name.size();
        if (is_appended(name)) appended = std::min(appended, header);
        directory +=
            "PK\1\2" + number(0x0314, 2) + shared(name, data) + number(0, 8) + number(0x81a40000, 4) + number(header, 4) + name;
        archive +=
            "PK\3\4" + shared(name, data) + number(extra, 2) + name + number(0x4645, 2) + number(extra - 4, 2) + number(1, 2);
        archive += std::string(extra - 6, '\0') + data;
    }
    const size_t offset = archive.size();
    appended = std::min(appended, offset);
    const Digest behind = sha256(bytes(archive) + appended, offset - appended);
    const Digest manifest = files.empty() ? Digest() : sha256(bytes(files[0].second), files[0].second.size());
    archive +=
        directory + "PK\5\6" + number(0, 4) + number(files.size(), 2) + number(files.size(), 2) + number(directory.size(), 4);
    return archive + number(offset, 4) + number(185, 2) + comment(manifest, behind);
}

}  // namespace edgefm
