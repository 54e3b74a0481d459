// The parts of the native engine that the C interface does not show, as C functions for the tests.
// Not part of the library: tests/native/conftest.py builds it.

#include <cstring>
#include <stdexcept>

#include "bundle.h"
#include "canonical.h"
#include "json.h"
#include "processors.h"
#include "sha256.h"

namespace {

constexpr size_t kRoom = 1 << 20;  // of every text that is handed back

int say(char* out, const std::string& text, int status) {
    std::strncpy(out, text.c_str(), kRoom - 1);
    return status;
}

std::string dump(const edgefm::Json& value) {
    using Kind = edgefm::Json::Kind;
    std::string text;
    switch (value.kind()) {
        case Kind::null:
            return "null";
        case Kind::boolean:
            return value.boolean("") ? "true" : "false";
        case Kind::integer:
            return std::to_string(value.integer(""));
        case Kind::real:
            return edgefm::canonical_number(value.number(""));
        case Kind::string:
            return edgefm::canonical_string(value.string(""));
        case Kind::array:
            for (const auto& each : value.array("")) text += (text.empty() ? "" : ",") + dump(each);
            return "[" + text + "]";
        default:
            for (const auto& [key, each] : value.object("")) {
                text += (text.empty() ? "" : ",") + edgefm::canonical_string(key) + ":" + dump(each);
            }
            return "{" + text + "}";
    }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void probe_sha256(const uint8_t* data, size_t size, size_t piece, int portable, uint8_t* out) {
    edgefm::Sha256 hash(portable ? edgefm::portable_sha256() : edgefm::best_sha256());
    for (size_t at = 0; at < size; at += piece) hash.update(data + at, size - at < piece ? size - at : piece);
    const edgefm::Digest digest = hash.finish();
    std::memcpy(out, digest.data(), 32);
}

EXPORT int probe_has_sha_ni() {
    return edgefm::best_sha256() != edgefm::portable_sha256();
}

// Below 0 for no limit.
EXPORT double probe_cgroup_quota(const char* root, const char* membership) {
    return edgefm::cgroup_quota(root, membership).value_or(-1.0);
}

EXPORT int probe_usable_processors() {
    return edgefm::usable_processors();
}

EXPORT int probe_json(const char* text, size_t size, char* out) try {
    return say(out, dump(edgefm::Json::parse(text, size)), 0);
} catch (const std::exception& error) {
    return say(out, error.what(), 1);
}

EXPORT int probe_canonical(const char* text, size_t size, char* out) try {
    edgefm::check_canonical(edgefm::Json::parse(text, size), {text, size});
    return 0;
} catch (const std::exception& error) {
    return say(out, error.what(), 1);
}

EXPORT int probe_open(const char* path, int threads, char* out) try {
    return say(out, edgefm::Bundle(path, threads).id(), 0);
} catch (const std::exception& error) {
    return say(out, error.what(), 1);
}

EXPORT int probe_open_memory(const uint8_t* data, size_t size, int threads, char* out) try {
    return say(out, edgefm::Bundle(data, size, threads).id(), 0);
} catch (const std::exception& error) {
    return say(out, error.what(), 1);
}
