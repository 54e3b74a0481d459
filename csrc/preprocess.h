// Pixels to the tensor a model was trained on: edgefm/spec/preprocess.py in C++.
// Not a decoder, and not the inner loops (isa/preprocess_kernels.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cpu_features.h"

namespace edgefm {

// The fields of edgefm.spec.preprocess.Preprocess.
struct PreprocessSpec {
    int channels = 3;  // of the output, 1 or 3
    int size = 224;
    bool squash = false;
    int resize_to = 224;
    bool bicubic = true;
    double low = 0.0, high = 65535.0;  // window of 16-bit pixels
    float mean[3] = {0.0f, 0.0f, 0.0f};
    float std[3] = {1.0f, 1.0f, 1.0f};
};

// An image in memory: samples of one row lie side by side, rows are `stride` bytes apart (may be negative).
struct Pixels {
    const uint8_t* data = nullptr;
    int64_t height = 0, width = 0;
    int channels = 1;  // 1, 3 or 4; the fourth is not read
    int bits = 8;      // 8 or 16
    ptrdiff_t stride = 0;
};

// Longest side that keeps every index an exact integer.
constexpr int64_t kLongestSide = int64_t{1} << 24;

// What is wrong with the arguments, or "".
std::string check(const PreprocessSpec& spec, const Pixels& pixels);

// The highest of preprocessing's instruction sets (scalar, avx2, avx512) that this processor has, not above `cap` (below_cap).
// Throws std::invalid_argument on an unknown word.
Isa preprocess_isa(const std::string& cap);

// Fills out[channels * size * size]. The same bits for any number of threads (>= 1).
// `isa` is one of preprocess_isa's. Throws std::invalid_argument where `check` complains, std::bad_alloc.
void preprocess(const PreprocessSpec& spec, const Pixels& pixels, int threads, Isa isa, float* out);

}  // namespace edgefm
