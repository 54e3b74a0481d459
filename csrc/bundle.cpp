#include "bundle.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "bundle_names.h"
#include "canonical.h"
#include "crc32.h"

namespace edgefm {
namespace {

constexpr size_t kChunk = 1 << 20, kLargestJson = 1 << 24;
constexpr size_t kMostThreads = 8;

struct Chunk {
    const Entry* entry;
    size_t start, stop;
    const Digest* digest;
};

// Whatever a parser complains about, as an error of the member that it read.
template <typename Read>
auto read(const char* member, Read read) {
    try {
        return read();
    } catch (const std::invalid_argument& error) {
        throw BundleError(std::string(member) + " cannot be used: " + error.what());
    }
}

// Hashes chunks until none is left or one is wrong. Returns the index of a wrong one, or the number of chunks.
size_t first_wrong(const uint8_t* data, const std::vector<Chunk>& chunks, const Mapping* mapping, size_t threads) {
    std::atomic<size_t> next{0}, wrong{chunks.size()};
    const auto work = [&]() noexcept {
        for (size_t i = next++; i < chunks.size() && wrong == chunks.size(); i = next++) {
            const Chunk& chunk = chunks[i];
            if (sha256(data + chunk.start, chunk.stop - chunk.start) != *chunk.digest) wrong = i;
            if (mapping != nullptr) mapping->forget(chunk.start, chunk.stop);
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        for (size_t i = 1; i < threads; ++i) others.emplace_back(work);
    } catch (...) {
        // No more threads: those that started, and this one, do all the chunks.
    }
    work();
    for (std::thread& other : others) other.join();
    return wrong;
}

}  // namespace

Bundle::Bundle(const char* path, int threads) : mapping_(std::make_unique<Mapping>(path)) {
    data_ = mapping_->data();
    size_ = mapping_->size();
    check(threads);
}

Bundle::Bundle(const uint8_t* data, size_t size, int threads) : data_(data), size_(size) {
    if (reinterpret_cast<uintptr_t>(data) % 64 != 0) {
        copy_.resize(size + 63);
        uint8_t* aligned = copy_.data() + (64 - reinterpret_cast<uintptr_t>(copy_.data()) % 64) % 64;
        std::memcpy(aligned, data, size);
        data_ = aligned;
    }
    check(threads);
}

// The numbers are those of docs/efm-format.md, "Reading: the checks in their order".
void Bundle::check(int threads) {
    members_ = read_layout(data_, size_);  // 1 and 2
    while (listed_ < members_.size() && !is_appended(members_[listed_].name)) ++listed_;
    const std::string_view manifest = json(kManifest);
    const Digest digest = sha256(data_ + members_[0].start, manifest.size());
    const auto first = members_.begin() + static_cast<ptrdiff_t>(listed_);
    const size_t end = members_.back().stop, appended = first == members_.end() ? end : first->header;
    const std::string expected = comment(digest, sha256(data_ + appended, end - appended));
    if (std::memcmp(data_ + size_ - kComment, expected.data(), kComment) != 0) {  // 3
        throw BundleError("its manifest, evidence or signatures have been changed: a SHA-256 in the archive comment differs");
    }
    id_ = hexadecimal(digest);
    manifest_ = read(kManifest, [&] { return read_manifest(manifest); });  // 4
    check_listing();
    check_references();
    check_chunks(threads);  // 5
    std::string labels;     // 6
    for (const std::string& label : manifest_.task.labels) labels += (labels.empty() ? "[" : ",") + canonical_string(label);
    labels += labels.empty() ? "[]" : "]";
    if (json(kLabels) != labels) throw BundleError("labels.json differs from the labels in manifest.json");
    preprocess_ = read(kPreprocess, [&] { return read_preprocess(json(kPreprocess)); });
}

// Both lists are in ascending order of names: they must be the same, one by one.
void Bundle::check_listing() const {
    if (crc32(data_ + members_[0].start, members_[0].size) != members_[0].crc32) {
        throw BundleError("the header of manifest.json has a wrong CRC-32");
    }
    size_t i = 1;
    for (const Entry& entry : manifest_.entries) {
        if (i == members_.size() || members_[i].name != entry.name) {
            throw BundleError("manifest.json lists " + shown(entry.name) + " where the archive has another member or none");
        }
        const Member& member = members_[i++];
        if (member.size != entry.size || member.crc32 != entry.crc32) {
            throw BundleError("size or checksum of " + entry.name + " are not those that manifest.json lists");
        }
        const size_t expected = (member.size + kChunk - 1) / kChunk;
        if (entry.chunks.size() != expected) throw BundleError("the number of chunk hashes of " + entry.name + " is wrong");
    }
    if (i != members_.size() && !is_appended(members_[i].name)) {
        throw BundleError("it holds " + std::string(members_[i].name) + ", which manifest.json does not list");
    }
}

void Bundle::check_references() const {
    const auto demand_file = [&](const std::string& file, const char* folder) {
        // appended members are in neither folder
        if (file.compare(0, std::strlen(folder), folder) == 0 && find(file) != nullptr) return;
        throw BundleError("manifest.json names the file " + shown(file) + ", which is not there",
                          std::string("a member in ") + folder);
    };
    member(kLabels);
    member(kPreprocess);
    if (manifest_.variants.empty()) throw BundleError("manifest.json lists no variant", "at least one");
    std::vector<std::string> names;
    for (const Variant& variant : manifest_.variants) {
        names.push_back(variant.name);
        if (variant.name != variant.engine + "-" + variant.precision) {
            throw BundleError("a variant is called " + shown(variant.name), variant.engine + "-" + variant.precision);
        }
        for (const Graph& graph : variant.graphs) {
            if (graph.files.empty()) throw BundleError("a graph of " + variant.name + " names no file");
            for (const std::string& file : graph.files) demand_file(file, "variants/");
        }
    }
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end()) throw BundleError("a variant is listed twice");
    for (const Golden& golden : manifest_.golden) {
        demand_file(golden.pixels, "golden/");
        for (const auto& [_, file] : golden.outputs) demand_file(file, "golden/");
    }
}

void Bundle::check_chunks(int threads) const {
    std::vector<Chunk> chunks;
    size_t bytes = 0;
    for (size_t i = 0; i < manifest_.entries.size(); ++i) {
        const Entry& entry = manifest_.entries[i];
        const Member& member = members_[i + 1];
        for (size_t k = 0; k < entry.chunks.size(); ++k) {
            const size_t start = member.start + k * kChunk;
            chunks.push_back({&entry, start, std::min(start + kChunk, member.stop), &entry.chunks[k]});
        }
        bytes += member.size;
    }
    const size_t count = std::clamp<size_t>(std::min(static_cast<size_t>(threads), bytes / (2 * kChunk)), 1, kMostThreads);
    const size_t wrong = first_wrong(data_, chunks, mapping_.get(), count);
    if (wrong == chunks.size()) return;
    throw BundleError(chunks[wrong].entry->name + " has been changed between the bytes " + std::to_string(chunks[wrong].start) +
                      " and " + std::to_string(chunks[wrong].stop) + " of the file");
}

// Members are in ascending order of names, but for the manifest before and the appended ones behind them.
const Member* Bundle::find(std::string_view name) const {
    const auto begin = members_.begin() + 1, end = members_.begin() + static_cast<ptrdiff_t>(listed_);
    const auto at =
        std::lower_bound(begin, end, name, [](const Member& m, std::string_view wanted) { return m.name < wanted; });
    if (at != end && at->name == name) return &*at;
    const auto other = std::find_if(end, members_.end(), [&](const Member& m) { return m.name == name; });
    return other != members_.end() ? &*other : name == kManifest ? &members_[0] : nullptr;
}

const Member& Bundle::member(std::string_view name) const {
    const Member* found = find(name);
    if (found == nullptr) throw BundleError("it has no member " + shown(name));
    return *found;
}

std::string_view Bundle::json(std::string_view name) const {
    const Member& found = member(name);
    if (found.size > kLargestJson) throw BundleError(std::string(name) + " takes more than 16777216 bytes");
    return {reinterpret_cast<const char*>(data_ + found.start), found.size};
}

Bundle::View Bundle::view(std::string_view name) const {
    const Member& found = member(name);
    return {data_ + found.start, found.size};
}

}  // namespace edgefm
