// The C interface (include/edgefm.h): structs of any size in, numbers out, no exception past this file.
// Not the work itself, which is in session.cpp.

#include <algorithm>
#include <cstring>
#include <new>

#include "float_environment.h"
#include "processors.h"
#include "session.h"
#include "shortened.h"
#include "threads.h"

struct edgefm_session {
    edgefm::Session session;
};

namespace edgefm {
namespace {

// A struct as this library knows it, of a caller who may know less or more. What it knows more must be 0: a wish that this
// library cannot fulfil is refused, not passed over. When fields are added, the least size stays that of the first version.
template <typename Struct>
Struct taken(const Struct* given, const char* what) {
    if (given == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, std::string(what) + " is NULL");
    const size_t size = given->struct_size;
    // A multiple of the alignment, since structs may lie behind one another.
    if (size < sizeof(Struct) || size > 4096 || size % alignof(Struct) != 0) {
        throw Failure(EDGEFM_ERROR_ARGUMENT, std::string(what) + "'s struct_size is " + std::to_string(size) + "; expected " +
                                                 std::to_string(sizeof(Struct)));
    }
    const auto* bytes = reinterpret_cast<const uint8_t*>(given);
    if (std::any_of(bytes + sizeof(Struct), bytes + size, [](uint8_t byte) { return byte != 0; })) {
        throw Failure(EDGEFM_ERROR_ARGUMENT,
                      std::string(what) + " has fields that this library does not know; use a newer one");
    }
    Struct copy;
    std::memcpy(&copy, given, sizeof copy);
    return copy;
}

// The message, cut at the end of a character.
void tell(edgefm_error* error, edgefm_status status, const char* message) noexcept {
    if (error == nullptr || error->struct_size < sizeof(edgefm_error)) return;
    error->status = status;
    const size_t length = shortened(message, sizeof error->message - 1).size();
    std::memcpy(error->message, message, length);
    error->message[length] = '\0';
}

// Runs `work`; whatever it throws becomes a number and a sentence. Whatever the caller's floats obey, here they are plain.
template <typename Work>
edgefm_status guarded(edgefm_error* error, Work work) noexcept {
    const PlainFloats plain;
    edgefm_status status = EDGEFM_ERROR_INTERNAL;
    try {
        work();
        tell(error, EDGEFM_OK, "");
        return EDGEFM_OK;
    } catch (const Failure& failure) {
        tell(error, status = failure.status(), failure.what());
    } catch (const BundleError& failure) {
        status = failure.kind() == BundleError::Kind::newer ? EDGEFM_ERROR_NEWER : EDGEFM_ERROR_BUNDLE;
        tell(error, status, failure.what());
    } catch (const FileError& failure) {
        tell(error, status = EDGEFM_ERROR_FILE, failure.what());
    } catch (const OtherProcess& failure) {
        tell(error, status = EDGEFM_ERROR_ARGUMENT, failure.what());
    } catch (const NoThreads& failure) {
        tell(error, status = EDGEFM_ERROR_MEMORY, failure.what());
    } catch (const std::bad_alloc&) {
        tell(error, status = EDGEFM_ERROR_MEMORY, "there is not enough memory");
    } catch (const std::exception& failure) {
        tell(error, status, failure.what());
    } catch (...) {
        tell(error, status, "an unknown failure");
    }
    return status;
}

SessionOptions read_options(const edgefm_options* given) {
    edgefm_options options = {};
    if (given != nullptr) options = taken(given, "options");
    if (options.threads < 0 || options.threads > 256) throw Failure(EDGEFM_ERROR_ARGUMENT, "threads is not 0 to 256");
    if (options.images < 0 || options.images > 4096) throw Failure(EDGEFM_ERROR_ARGUMENT, "images is not 0 to 4096");
    SessionOptions read;
    read.threads = options.threads != 0 ? options.threads : std::min(usable_processors(), 256);
    read.images = options.images != 0 ? options.images : 1;
    read.allow_refused = options.allow_refused != 0;
    read.variant = options.variant == nullptr ? "" : options.variant;
    return read;
}

// `open(threads)` makes the bundle.
template <typename Open>
edgefm_status open_with(const edgefm_options* given, edgefm_session** session, edgefm_error* error, Open open) {
    if (session != nullptr) *session = nullptr;
    return guarded(error, [&] {
        if (session == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, "session is NULL");
        const SessionOptions options = read_options(given);
        std::unique_ptr<const Bundle> bundle = open(options.threads);
        *session = new edgefm_session{Session(std::move(bundle), options)};
    });
}

Pixels read_image(const edgefm_image& image) {
    Pixels pixels;
    pixels.data = static_cast<const uint8_t*>(image.pixels);
    pixels.height = image.height;
    pixels.width = image.width;
    pixels.channels = image.channels;
    pixels.bits = image.bits;
    // Anything that the check of pixels refuses needs no product, which might not fit.
    const bool sound = image.width > 0 && image.width <= kLongestSide && image.channels > 0 && image.channels <= 4;
    pixels.stride = image.stride != 0 || !sound ? image.stride : image.width * image.channels * (image.bits == 16 ? 2 : 1);
    return pixels;
}

std::vector<Pixels> read_images(const edgefm_image* images, size_t count) {
    if (count > 1 << 20) throw Failure(EDGEFM_ERROR_ARGUMENT, "count is above 1048576");
    std::vector<Pixels> pixels;
    const auto* at = reinterpret_cast<const uint8_t*>(images);
    for (size_t i = 0; i < count; ++i) {
        const edgefm_image* each = reinterpret_cast<const edgefm_image*>(at);
        const edgefm_image image = taken(each, "images");
        if (image.pixels == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, "image " + std::to_string(i) + ": pixels is NULL");
        pixels.push_back(read_image(image));
        if (each->struct_size != images->struct_size) throw Failure(EDGEFM_ERROR_ARGUMENT, "images differ in struct_size");
        at += images->struct_size;
    }
    return pixels;
}

edgefm_description describe(const Session& session) {
    const Manifest& manifest = session.bundle().manifest();
    const EncoderShape& shape = session.encoder().shape();
    const PreprocessSpec& spec = session.bundle().preprocess();
    edgefm_description d = {};
    d.id = session.bundle().id().c_str();
    d.name = manifest.name.c_str();
    d.variant = session.variant().name.c_str();
    d.isa = session.encoder().isa();
    d.refused = manifest.refused ? manifest.refused->c_str() : nullptr;
    d.task = static_cast<int32_t>(manifest.task.kind);
    d.labels_count = static_cast<int32_t>(manifest.task.labels.size());
    d.labels = session.labels().data();
    d.thresholds = manifest.task.thresholds.empty() ? nullptr : manifest.task.thresholds.data();
    d.temperature = manifest.task.temperature;
    d.embedding_size = shape.embedding;
    d.heat_side = shape.class_token ? shape.grid : 0;
    d.channels = spec.channels;
    d.size = spec.size;
    d.window_low = spec.low;
    d.window_high = spec.high;
    return d;
}

const Session& inside(const edgefm_session* session) {
    if (session == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, "session is NULL");
    return session->session;
}

}  // namespace
}  // namespace edgefm

using edgefm::Bundle;
using edgefm::Failure;

uint32_t edgefm_abi(void) {
    return EDGEFM_ABI;
}

const char* edgefm_version(void) {
    return EDGEFM_VERSION;
}

edgefm_status edgefm_open(const char* path, const edgefm_options* options, edgefm_session** session, edgefm_error* error) {
    return edgefm::open_with(options, session, error, [&](int threads) {
        if (path == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, "path is NULL");
        return std::make_unique<const Bundle>(path, threads);
    });
}

edgefm_status edgefm_open_memory(const void* data, size_t size, const edgefm_options* options, edgefm_session** session,
                                 edgefm_error* error) {
    return edgefm::open_with(options, session, error, [&](int threads) {
        if (data == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, "data is NULL");
        return std::make_unique<const Bundle>(static_cast<const uint8_t*>(data), size, threads);
    });
}

void edgefm_close(edgefm_session* session) {
    delete session;
}

edgefm_status edgefm_describe(const edgefm_session* session, edgefm_description* description, edgefm_error* error) {
    return edgefm::guarded(error, [&] {
        const edgefm::Session& opened = edgefm::inside(session);
        if (description == nullptr) throw Failure(EDGEFM_ERROR_ARGUMENT, "description is NULL");
        const size_t size = description->struct_size;
        if (size < sizeof *description) throw Failure(EDGEFM_ERROR_ARGUMENT, "description's struct_size is too small");
        *description = edgefm::describe(opened);
        description->struct_size = size;
    });
}

edgefm_status edgefm_predict(edgefm_session* session, const edgefm_image* images, size_t count, const edgefm_outputs* outputs,
                             edgefm_error* error) {
    return edgefm::guarded(error, [&] {
        const edgefm::Session& opened = edgefm::inside(session);
        const edgefm_outputs wanted = edgefm::taken(outputs, "outputs");
        if (wanted.heat != nullptr && !opened.encoder().shape().class_token) {
            throw Failure(EDGEFM_ERROR_ARGUMENT, "a heat map is asked for, and the model has no class token");
        }
        if (opened.labels().empty() &&
            (wanted.logits != nullptr || wanted.probabilities != nullptr || wanted.decisions != nullptr)) {
            throw Failure(EDGEFM_ERROR_ARGUMENT,
                          "logits, probabilities or decisions are asked for, and the task is an embedding");
        }
        if (count == 0) return;
        opened.predict(edgefm::read_images(images, count), wanted);
    });
}

edgefm_status edgefm_check(edgefm_session* session, edgefm_error* error) {
    return edgefm::guarded(error, [&] { edgefm::check_golden(edgefm::inside(session)); });
}
