"""Dropout's mask inside the kernels that apply it: Philox again for every block, so no mask is in memory, of no pass.

One counter of Philox gives eight 16-bit numbers, those of eight neighbours in a row, so an element costs some ten integer
instructions; to load its bit would cost as many and make the loop wait. The mask is `reference.philox.keep`'s, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ..reference import philox

ROUNDS, STREAM = tl.constexpr(philox.ROUNDS), tl.constexpr(philox.STREAM)


class Mask(NamedTuple):
    """Which elements are kept: the seed's int64 tensor, the stream of its counters, dropout's threshold of 65,536."""

    seed: torch.Tensor
    stream: int
    threshold: int


@triton.jit
def kept(seed, stream, threshold, rows, groups, width):
    """Whether the elements at rows × the eight neighbours of each of `groups` are kept: `[rows, 8 · groups]`.

    rows: int64; groups: numbers of eights in a row, of which a row of the matrix has cdiv(width, 8)."""
    first = tl.cast(stream, tl.int64) * STREAM
    counter = (first + rows * tl.cdiv(width, 8))[:, None] + groups[None, :]
    low, high = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(tl.load(seed), low, high, low * 0, low * 0, ROUNDS)
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))  # the last axis turns first: w0, w1, w2, w3
    numbers = tl.join(words & 0xFFFF, words >> 16)
    return tl.reshape(numbers, (rows.shape[0], groups.shape[0] * 8)) >= threshold.to(tl.uint32)


def mask(seed: torch.Tensor | None, stream: int, p: float) -> Mask | None:
    """The mask of dropout with probability p; None without."""
    return Mask(seed, stream, philox.threshold(p)) if p and seed is not None else None
