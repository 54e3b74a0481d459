#include "png.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace edgefm {
namespace {

enum Filter : uint8_t { kNone = 0, kSub = 1, kUp = 2, kAverage = 3, kPaeth = 4 };

// Section 9.4: of the bytes to the left, above and above the left one, the one nearest to left + above - above_left.
uint8_t paeth(int left, int above, int above_left) {
    const int a = std::abs(above - above_left), b = std::abs(left - above_left);
    const int c = std::abs(left + above - 2 * above_left);
    if (a <= b && a <= c) return static_cast<uint8_t>(left);
    return static_cast<uint8_t>(b <= c ? above : above_left);
}

// One row; `above` is the row before it, undone, or null for the first. False for an unknown filter type.
bool undo(uint8_t filter, const uint8_t* row, const uint8_t* above, int64_t stride, int64_t step, uint8_t* out) {
    switch (filter) {
        case kNone:
            std::memcpy(out, row, static_cast<size_t>(stride));
            return true;
        case kSub:
            for (int64_t i = 0; i < stride; ++i) out[i] = static_cast<uint8_t>(row[i] + (i < step ? 0 : out[i - step]));
            return true;
        case kUp:
            for (int64_t i = 0; i < stride; ++i) out[i] = static_cast<uint8_t>(row[i] + (above == nullptr ? 0 : above[i]));
            return true;
        case kAverage:
            for (int64_t i = 0; i < stride; ++i) {
                const int left = i < step ? 0 : out[i - step], up = above == nullptr ? 0 : above[i];
                out[i] = static_cast<uint8_t>(row[i] + (left + up) / 2);
            }
            return true;
        case kPaeth:
            for (int64_t i = 0; i < stride; ++i) {
                const int left = i < step ? 0 : out[i - step], up = above == nullptr ? 0 : above[i];
                const int corner = i < step || above == nullptr ? 0 : above[i - step];
                out[i] = static_cast<uint8_t>(row[i] + paeth(left, up, corner));
            }
            return true;
        default:
            return false;
    }
}

}  // namespace

int64_t png_unfilter(const uint8_t* rows, int64_t height, int64_t stride, int pixel_bytes, uint8_t* out) noexcept {
    const int64_t step = std::min<int64_t>(pixel_bytes, stride);
    for (int64_t y = 0; y < height; ++y, rows += stride + 1) {
        uint8_t* line = out + y * stride;
        if (!undo(rows[0], rows + 1, y == 0 ? nullptr : line - stride, stride, step, line)) return y;
    }
    return -1;
}

}  // namespace edgefm
