"""Dropout's mask as bits, 32 elements a word, made by one pass of Philox. Not kept: forward and backward each make it.

One counter of Philox gives eight 16-bit numbers, a byte of the mask, so a pass over `[M, K]` costs M · K / 8 counters and the
kernels that apply the mask read 1/16 of what they read of x. Rows are padded to whole words: four bytes are the least that is
copied ahead of a loop. The mask is `reference.philox.keep`'s, bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..reference.philox import ROUNDS, STREAM, threshold

# Rows and counters of one program: 32 bytes of a row are a sector, and 24 words of 768 columns three of them.
ROWS, COUNTERS = 32, 32


@triton.jit
def push(byte, word, limit):
    """The byte with two bits more at its right, set where the word's high half, then its low half, is above limit."""
    byte = byte << 1 | (limit - (word >> 16)) >> 31
    return byte << 1 | (limit - (word & 0xFFFF)) >> 31


@triton.jit
def keep_bits_kernel(
    seed, bits, first, M, counters, words, limit, ROUNDS: tl.constexpr, ROWS: tl.constexpr, COUNTERS: tl.constexpr
):
    """bits, as bytes, `[M, 4 words]`: those of counter first + row · counters + column, the lowest bit the leftmost element."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COUNTERS + tl.arange(0, COUNTERS)
    counter = first + (rows * counters)[:, None] + columns[None, :]
    low, high = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(tl.load(seed), low, high, low * 0, low * 0, ROUNDS)
    byte = push(push(push(push(low * 0, w3, limit), w2, limit), w1, limit), w0, limit)
    to = bits + (rows * (words * 4))[:, None] + columns[None, :]
    tl.store(to, byte.to(tl.uint8), mask=(rows < M)[:, None] & (columns < words * 4)[None, :])


@triton.jit
def kept(bits, rows, first, words, BLOCK: tl.constexpr):
    """Whether the elements at rows (in range) × BLOCK columns from `first` on, a multiple of 32, are kept; words: in a row.

    One load of a word serves 32 elements and is wide enough to run ahead of the loop; then it is cut into bytes and bits in
    the registers: a thread that holds eight neighbours tests them against eight constants.
    """
    at = first // 32 + tl.arange(0, BLOCK // 32)
    word = tl.load(bits + rows[:, None] * words + at[None, :], mask=(at < words)[None, :], other=0)
    byte = tl.reshape(word[:, :, None] >> (tl.arange(0, 4) * 8)[None, None, :], (rows.shape[0], BLOCK // 8))
    return tl.reshape(byte[:, :, None] & (1 << tl.arange(0, 8))[None, None, :], (rows.shape[0], BLOCK)) != 0


def keep_bits(seed: torch.Tensor, stream: int, rows: int, columns: int, p: float) -> torch.Tensor:
    """The mask of a `[rows, columns]` matrix: int32 `[rows, ceil(columns / 32)]`, element 32 i + j bit j of word i."""
    counters, words = -(-columns // 8), -(-columns // 32)
    bits = torch.empty(rows, words, dtype=torch.int32, device=seed.device)
    keep_bits_kernel[-(-rows // ROWS), -(-4 * words // COUNTERS)](
        seed, bits.view(torch.uint8), stream * STREAM, rows, counters, words, threshold(p) - 1, ROUNDS, ROWS, COUNTERS,
        num_warps=4,
    )  # fmt: skip
    return bits
