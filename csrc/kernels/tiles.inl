// How rows are cut into tiles of at most `kRows`, as many as the including unit's EDGEFM_ROWS says. Not what is done with a
// tile.
#pragma once

namespace edgefm {
namespace {

constexpr int kRows = EDGEFM_ROWS;

// The heights that a tile may have: each is a function of its own, in whose registers it fits.
template <int... R>
struct Heights {};
#if EDGEFM_ROWS == 12
typedef Heights<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12> AllHeights;
#elif EDGEFM_ROWS == 6
typedef Heights<1, 2, 3, 4, 5, 6> AllHeights;
#endif

// Calls f(first row, rows) for tiles as even as they can be.
template <typename Function>
inline void for_tiles(int first, int last, const Function& f) {
    const int tiles = (last - first + kRows - 1) / kRows;
    for (int t = 0, row = first; t < tiles; ++t) {
        const int next = first + static_cast<int>(int64_t{last - first} * (t + 1) / tiles);
        f(row, next - row);
        row = next;
    }
}

}  // namespace
}  // namespace edgefm
