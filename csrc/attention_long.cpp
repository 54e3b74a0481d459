#include "attention_long.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace edgefm {
namespace {

constexpr int kStep = 64;  // rows that are put together at a time: their tile's answers stay in the cache
constexpr int kMostTiles = kMostTokens / kWholeRows;

struct Tiles {
    int count, tokens;  // of all but the last

    explicit Tiles(int all)
        : count((all + kWholeRows - 1) / kWholeRows),
          tokens(count == 1 ? all : static_cast<int>(round_up((all + count - 1) / count, 64))) {}
};

int64_t packed_tile(const Kernels& kernels, const Tiles& tiles, int width, bool int8) {
    return round_up(static_cast<int64_t>(kernels.attention_packed(tiles.tokens, width, int8)), 64);
}

int64_t scratch_tile(const Kernels& kernels, const Tiles& tiles, int width, bool int8) {
    return round_up(static_cast<int64_t>(kernels.attention_scratch(tiles.tokens, width, int8)), 64);
}

// The keys and values of one tile.
Attention tile_of(const Kernels& kernels, const Attention& a, const Tiles& tiles, int tile, bool int8) {
    Attention part = a;
    const int64_t start = int64_t{tile} * tiles.tokens;
    part.k += start * a.stride;
    part.v += start * a.stride;
    part.tokens = std::min(tiles.tokens, a.tokens - static_cast<int>(start));
    part.packed += tile * packed_tile(kernels, tiles, a.width, int8);
    return part;
}

// Adds a tile's answer for one row to that of the tiles before it. NaN in either stays.
void add(float* y, float* lse, const float* tile_y, float tile_lse, int width) {
    const float most = tile_lse > *lse ? tile_lse : *lse;
    const float before = std::exp(*lse - most), now = std::exp(tile_lse - most), sum = before + now;
    for (int i = 0; i < width; i++) y[i] = (before * y[i] + now * tile_y[i]) / sum;
    *lse = most + std::log(sum);
}

}  // namespace

int64_t attention_packed(const Kernels& kernels, int tokens, int width, bool int8) {
    const Tiles tiles(tokens);
    return tiles.count * packed_tile(kernels, tiles, width, int8);
}

int64_t attention_scratch(const Kernels& kernels, int tokens, int width, bool int8) {
    const Tiles tiles(tokens);
    const int64_t own = tiles.count == 1 ? 0 : int64_t{kStep} * (width + 2) * static_cast<int64_t>(sizeof(float));
    return scratch_tile(kernels, tiles, width, int8) + round_up(own, 64);
}

void pack_attention(const Kernels& kernels, const Attention& a, bool int8) {
    const Tiles tiles(a.tokens);
    for (int tile = 0; tile < tiles.count; tile++) {
        (int8 ? kernels.attention_pack_int8 : kernels.attention_pack_fp32)(tile_of(kernels, a, tiles, tile, int8));
    }
}

void attend(const Kernels& kernels, const Attention& a, bool int8, int first, int last) {
    const auto work = int8 ? kernels.attention_int8 : kernels.attention_fp32;
    const Tiles tiles(a.tokens);
    if (tiles.count == 1) return work(a, first, last);
    float* tile_y = reinterpret_cast<float*>(a.scratch + scratch_tile(kernels, tiles, a.width, int8));
    float *tile_lse = tile_y + int64_t{kStep} * a.width, *lse = tile_lse + kStep;
    for (int row = first; row < last; row += kStep) {
        const int rows = std::min(kStep, last - row);
        const bool map = a.row0 != nullptr && row == 0;
        std::array<float, kMostTiles> first_lse{};
        for (int tile = 0; tile < tiles.count; tile++) {
            Attention part = tile_of(kernels, a, tiles, tile, int8);
            part.q += row * a.stride;  // its rows are 0 to rows - 1
            part.row0 = map ? a.row0 + int64_t{tile} * tiles.tokens : nullptr;
            part.y = tile == 0 ? a.y + row * a.y_stride : tile_y;
            part.y_stride = tile == 0 ? a.y_stride : a.width;
            part.lse = tile == 0 ? lse : tile_lse;
            work(part, 0, rows);
            first_lse[static_cast<size_t>(tile)] = part.lse[0];
            for (int i = 0; tile > 0 && i < rows; i++) {
                add(a.y + (row + i) * a.y_stride, lse + i, tile_y + int64_t{i} * a.width, tile_lse[i], a.width);
            }
        }
        for (int t = 0; map && t < a.tokens; t++) {
            a.row0[t] *= std::exp(first_lse[static_cast<size_t>(t / tiles.tokens)] - lse[0]);
        }
        if (a.lse != nullptr) std::copy(lse, lse + rows, a.lse + row);
    }
}

}  // namespace edgefm
