#include "bundle_layout.h"

#include <cstring>

#include "bundle_error.h"
#include "bundle_names.h"

namespace edgefm {
namespace {

constexpr size_t kHeader = 30, kExtra = 6, kRecord = 46, kEnding = kEndRecord + kComment;
constexpr char kHead[] = "EdgeFM bundle format 1\n";

uint32_t read16(const uint8_t* p) {
    return p[0] | uint32_t{p[1]} << 8;
}

uint32_t read32(const uint8_t* p) {
    return read16(p) | read16(p + 2) << 16;
}

// Bytes that a writer would have written; numbers are little-endian.
class Bytes {
  public:
    Bytes& text(std::string_view text) {
        bytes_.append(text);
        return *this;
    }
    Bytes& number16(uint32_t value) { return byte(value), byte(value >> 8), *this; }
    Bytes& number32(uint32_t value) { return number16(value), number16(value >> 16); }
    Bytes& zeros(size_t count) {
        bytes_.append(count, '\0');
        return *this;
    }
    // Version 2.0, no flags, stored, 00:00:00 on 1 January 1980; then what the directory says of the member.
    Bytes& shared(const Member& member) {
        for (const uint32_t value : {20u, 0u, 0u, 0u, 0x21u}) number16(value);
        number32(member.crc32).number32(member.size).number32(member.size);
        return number16(static_cast<uint32_t>(member.name.size()));
    }
    void clear() { bytes_.clear(); }

    // Throws where the bytes at `at` differ from these. They must lie inside the file.
    void compare(const uint8_t* data, size_t at, const std::string& what) const {
        for (size_t i = 0; i < bytes_.size(); ++i) {
            if (data[at + i] != static_cast<uint8_t>(bytes_[i])) {
                throw BundleError("byte " + std::to_string(at + i) + " (" + what + ") is " + std::to_string(data[at + i]),
                                  std::to_string(static_cast<uint8_t>(bytes_[i])));
            }
        }
    }

  private:
    void byte(uint32_t value) { bytes_ += static_cast<char>(value & 0xff); }

    std::string bytes_;
};

// The most helpful thing to say about bytes that do not end as a bundle of this format does.
[[noreturn]] void refuse_end(const uint8_t* data, size_t size) {
    const bool marked = size >= 49 && std::memcmp(data, "PK\3\4", 4) == 0 && std::memcmp(data + kHeader, kManifest, 13) == 0 &&
                        read16(data + 43) == 0x4645;
    if (marked && read16(data + 47) > kFormat) throw newer_format(read16(data + 47));
    if (marked) throw BundleError("it is cut short, or something stands behind its end (" + std::to_string(size) + " bytes)");
    throw BundleError("it is no EdgeFM bundle, or only a part of one");
}

// Names, sizes and CRC-32 only: all else is compared later, so that a wrong byte is refused there.
std::vector<Member> read_directory(const uint8_t* data, size_t at, size_t end, size_t count) {
    std::vector<Member> members;
    while (at < end) {
        const std::string which = "record " + std::to_string(members.size()) + " of its directory";
        if (end - at < kRecord || std::memcmp(data + at, "PK\1\2", 4) != 0) throw BundleError(which + " is broken");
        const size_t length = read16(data + at + 28);
        if (end - at - kRecord < length) throw BundleError(which + " is cut short");
        Member member;
        member.name = std::string_view(reinterpret_cast<const char*>(data + at + kRecord), length);
        member.crc32 = read32(data + at + 16);
        member.size = read32(data + at + 24);
        members.push_back(member);
        at += kRecord + length;
    }
    if (members.empty() || members.size() != count || members.size() > 0xfffe) {
        throw BundleError("its directory has " + std::to_string(members.size()) + " records", std::to_string(count));
    }
    return members;
}

}  // namespace

BundleError newer_format(int64_t format) {
    return BundleError("it is a bundle of format " + std::to_string(format),
                       "format 1, the newest that this EdgeFM reads; upgrade EdgeFM here", BundleError::Kind::newer);
}

std::string comment(const Digest& manifest, const Digest& appended) {
    return kHead + ("manifest sha256 " + hexadecimal(manifest)) + "\nappended sha256 " + hexadecimal(appended) + "\n";
}

std::vector<Member> read_layout(const uint8_t* data, size_t size) {
    if (size < kEnding) refuse_end(data, size);
    const size_t end = size - kEnding;
    if (std::memcmp(data + end, "PK\5\6", 4) != 0 || std::memcmp(data + end + kEndRecord, kHead, sizeof kHead - 1) != 0) {
        refuse_end(data, size);
    }
    const size_t count = read16(data + end + 10), length = read32(data + end + 12), directory = read32(data + end + 16);
    if (end > 0xfffffffe || directory + length != end) {
        throw BundleError("its directory of " + std::to_string(length) + " bytes at " + std::to_string(directory) +
                              " does not end where the end record begins",
                          "nothing before, between or behind, and no ZIP64");
    }
    std::vector<Member> members = read_directory(data, directory, end, count);
    std::vector<std::string_view> names;
    for (const Member& member : members) names.push_back(member.name);
    check_names(names);

    size_t at = 0;
    for (Member& member : members) {
        member.header = at;
        member.start = (at + kHeader + member.name.size() + kExtra + 63) / 64 * 64;
        member.stop = at = member.start + member.size;
    }
    if (at != directory) {
        throw BundleError("its members end at byte " + std::to_string(at), "byte " + std::to_string(directory));
    }
    Bytes made;
    for (const Member& member : members) {
        const size_t extra = member.start - member.header - kHeader - member.name.size();
        made.clear();
        made.text("PK\3\4").shared(member).number16(static_cast<uint32_t>(extra)).text(member.name);
        made.number16(0x4645).number16(static_cast<uint32_t>(extra - 4)).number16(kFormat).zeros(extra - kExtra);
        made.compare(data, member.header, "header of " + std::string(member.name));
    }
    for (const Member& member : members) {
        made.clear();
        made.text("PK\1\2").number16(0x0314).shared(member).zeros(8).number32(0x81a40000);
        made.number32(static_cast<uint32_t>(member.header)).text(member.name);
        made.compare(data, at, "directory");
        at += kRecord + member.name.size();
    }
    made.clear();
    made.text("PK\5\6").zeros(4).number16(static_cast<uint32_t>(count)).number16(static_cast<uint32_t>(count));
    made.number32(static_cast<uint32_t>(length)).number32(static_cast<uint32_t>(directory)).number16(kComment);
    made.compare(data, end, "end record");
    return members;
}

}  // namespace edgefm
