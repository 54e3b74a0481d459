// Attention of one head over any number of tokens. Not the arithmetic (`kernels/`): up to kWholeRows tokens this only calls it.
//
// Longer sequences are cut into tiles of keys. Each tile answers as if it were all, with the log-sum-exp of its scores, and
//
//     lse = log(sum_t exp(lse_t))    y = sum_t exp(lse_t - lse) y_t    row0 of tile t = exp(lse_t[0] - lse[0]) row0_t
//
// in the order of the tiles, as in Dao, FlashAttention-2 (2023), section 3.1. int8 has scales and a mean of K for each tile.
#pragma once

#include "kernels/table.h"

namespace edgefm {

constexpr int kWholeRows = 8192, kMostTokens = 65536;

// Bytes of Attention::packed and Attention::scratch; both are multiples of 64.
int64_t attention_packed(const Kernels& kernels, int tokens, int width, bool int8);
int64_t attention_scratch(const Kernels& kernels, int tokens, int width, bool int8);

// Once per head, before its rows; then rows first to last - 1. A row's bits do not depend on which rows are asked for.
void pack_attention(const Kernels& kernels, const Attention& a, bool int8);
void attend(const Kernels& kernels, const Attention& a, bool int8, int first, int last);

}  // namespace edgefm
