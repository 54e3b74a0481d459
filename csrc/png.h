// PNG's row filters, undone (PNG, third edition, W3C 2025, section 9): bytes of rows to bytes of pixels.
// Not a PNG reader: edgefm/runtime/png16.py reads the chunks, checks and unpacks them.
#pragma once

#include <cstdint>

namespace edgefm {

// Undoes the filters of `height` rows of one filter type and `stride` bytes each, `pixel_bytes` (1 to 8) per pixel,
// into out[height * stride]. Returns -1, or the first row whose filter type is unknown.
int64_t png_unfilter(const uint8_t* rows, int64_t height, int64_t stride, int pixel_bytes, uint8_t* out) noexcept;

}  // namespace edgefm
