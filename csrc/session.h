// A bundle, the variant of it that runs, and its engine: what the C interface opens.
// Not the interface itself (capi.cpp): here are C++ types and exceptions.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bundle.h"
#include "include/edgefm.h"
#include "preprocess.h"
#include "vit_encoder.h"

namespace edgefm {

// A failure with its number in the C interface.
class Failure : public std::runtime_error {
  public:
    Failure(edgefm_status status, const std::string& what) : std::runtime_error(what), status_(status) {}
    edgefm_status status() const { return status_; }

  private:
    edgefm_status status_;
};

struct SessionOptions {
    int threads = 1;
    int images = 1;
    bool allow_refused = false;
    std::string variant;  // "" for int8 if there is one, else fp32
};

// Immutable once made; safe to use from several threads.
class Session {
  public:
    Session(std::unique_ptr<const Bundle> bundle, const SessionOptions& options);

    const Bundle& bundle() const { return *bundle_; }
    const Variant& variant() const { return *variant_; }
    const Encoder& encoder() const { return *encoder_; }
    const std::vector<const char*>& labels() const { return labels_; }

    // Answers for images that `pixels` describes one after the other; null outputs are not wanted. Throws Failure.
    void predict(const std::vector<Pixels>& pixels, const edgefm_outputs& outputs) const;

  private:
    void prepare(const Pixels& pixels, size_t number, float* out) const;
    void decide_one(const float* logits, size_t number, const edgefm_outputs& outputs) const;

    std::unique_ptr<const Bundle> bundle_;
    const Variant* variant_ = nullptr;
    std::unique_ptr<const Encoder> encoder_;
    std::vector<const char*> labels_;
    Isa isa_ = Isa::scalar;
    int threads_ = 1, images_ = 1;
};

// Runs all golden inputs and compares, with the tolerances of edgefm/runtime/golden.py. Throws Failure.
void check_golden(const Session& session);

}  // namespace edgefm
