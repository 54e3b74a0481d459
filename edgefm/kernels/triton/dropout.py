"""Dropout's mask as bits, eight elements a byte, made by one pass of Philox. Not kept: forward and backward each make it.

One counter of Philox gives eight 16-bit numbers, so a pass over `[M, K]` costs M · K / 8 counters and the kernels that apply
the mask read 1/16 of what they read of x. The mask is `reference.philox.keep`'s, bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..reference.philox import ROUNDS, STREAM, threshold

BLOCK = 512


@triton.jit
def keep_bits_kernel(seed, bits, first, count, threshold, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    """bits[i] = eight elements of counter first + i, the lowest bit the leftmost element; a set bit is kept."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    counter = first + at
    low, high = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(tl.load(seed), low, high, low * 0, low * 0, ROUNDS)
    byte = ((w0 & 0xFFFF) >= threshold).to(tl.int32) | (((w0 >> 16) & 0xFFFF) >= threshold).to(tl.int32) << 1
    byte |= ((w1 & 0xFFFF) >= threshold).to(tl.int32) << 2 | (((w1 >> 16) & 0xFFFF) >= threshold).to(tl.int32) << 3
    byte |= ((w2 & 0xFFFF) >= threshold).to(tl.int32) << 4 | (((w2 >> 16) & 0xFFFF) >= threshold).to(tl.int32) << 5
    byte |= ((w3 & 0xFFFF) >= threshold).to(tl.int32) << 6 | (((w3 >> 16) & 0xFFFF) >= threshold).to(tl.int32) << 7
    tl.store(bits + at, byte.to(tl.uint8), mask=at < count)


@triton.jit
def kept(bits, rows, columns, groups):
    """Whether the elements at rows × columns (both in range) are kept; groups: bytes in a row."""
    byte = tl.load(bits + rows[:, None] * groups + (columns // 8)[None, :])
    return (byte.to(tl.int32) >> (columns % 8)[None, :]) & 1 != 0


def keep_bits(seed: torch.Tensor, stream: int, rows: int, columns: int, p: float) -> torch.Tensor:
    """The mask of a `[rows, columns]` matrix: uint8 `[rows, ceil(columns / 8)]`."""
    bits = torch.empty(rows, -(-columns // 8), dtype=torch.uint8, device=seed.device)
    grid = (triton.cdiv(bits.numel(), BLOCK),)
    keep_bits_kernel[grid](seed, bits, stream * STREAM, bits.numel(), threshold(p), ROUNDS, BLOCK, num_warps=4)
    return bits
