// The inner loops of preprocessing, one table of function pointers per instruction set.
// Not inline code: units of different flags include this, so it may hold nothing that a linker could share between them.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace edgefm {

// Every buffer of floats is readable and writable up to a multiple of `kStrip` past the counts given here.
constexpr size_t kStrip = 64;

struct PreprocessKernels {
    // out[i] = clip(source[i] - low, 0, range) for i < n; `source` needs no alignment.
    void (*load8)(const uint8_t* source, size_t n, float low, float range, float* out);
    void (*load16)(const uint8_t* source, size_t n, float low, float range, float* out);

    // out[x] = sum over t < taps of weights[t] * rows[t][x], for x < n rounded up to kStrip.
    void (*down)(const float* const* rows, const float* weights, size_t taps, size_t n, float* out);

    // out[j] = sum over t of weights[j * stride + t] * row[first[j] + t], t < taps[j] rounded up to the lanes (at most 16).
    // Weights past taps[j] are 0; stride is a multiple of 16.
    void (*across)(const float* row, const int32_t* first, const int32_t* taps, const float* weights, size_t stride,
                   size_t count, float* out);

    // out[j] = clip(row[j], 0, 1) * gain + offset for j < n.
    void (*normalise)(const float* row, size_t n, float gain, float offset, float* out);
};

extern const PreprocessKernels preprocess_scalar;
#if defined(__x86_64__)
extern const PreprocessKernels preprocess_avx2;
extern const PreprocessKernels preprocess_avx512;
#endif

}  // namespace edgefm
