"""Dropout's mask as a pure function of a seed and an element's place: Philox4x32 in plain torch.

Not torch's generator: nothing is drawn, so the backward makes the same mask again and none is kept.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; of its Philox4x32 seven rounds pass BigCrush (table 2).
"""

from __future__ import annotations

import torch

ROUNDS = 7
WORD = 0xFFFFFFFF
STREAM = 1 << 40  # counters of one stream; a second layer under the same seed takes the next
CACHED = 1 << 13  # counters at a time, so that a round's words stay in the processor's cache


def philox(seed: torch.Tensor, counter: torch.Tensor, rounds: int = ROUNDS) -> tuple[torch.Tensor, ...]:
    """Four words of 32 random bits, int64 in [0, 2^32), for each counter; what `tl.randint4x(seed, counter)` gives.

    Args:
        seed: int64, one element: the key. counter: int64, any shape: the low half of Philox's counter.
    """
    seed = seed.reshape(())
    k0, k1 = seed & WORD, (seed >> 32) & WORD
    c0, c1 = counter & WORD, (counter >> 32) & WORD
    c2 = c3 = torch.zeros_like(counter)
    for _ in range(rounds):
        # int64 products wrap; their 64 bits are right all the same
        even, odd = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (odd >> 32) & WORD ^ c1 ^ k0, odd & WORD, (even >> 32) & WORD ^ c3 ^ k1, even & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def threshold(p: float) -> int:
    """An element is dropped if its 16 random bits are below this: p to the nearest 1/65536."""
    return min(round(p * 65536), 65535)


def kept(p: float) -> float:
    """The probability that an element is kept, exactly: what the kept ones are divided by."""
    return 1 - threshold(p) / 65536


def keep(seed: torch.Tensor, stream: int, rows: int, columns: int, p: float) -> torch.Tensor:
    """Which elements of a `[rows, columns]` matrix dropout keeps, bool.

    Eight neighbours in a row share one counter: row · ceil(columns / 8) + column // 8, two to each of Philox's four words,
    the even one in its low half.
    """
    groups = -(-columns // 8)
    counters = torch.arange(rows * groups, device=seed.device) + stream * STREAM
    found = torch.empty(rows * groups, 8, dtype=torch.bool, device=seed.device)
    for counter, part in zip(counters.split(CACHED), found.split(CACHED)):
        halves = [half for word in philox(seed, counter) for half in (word & 0xFFFF, word >> 16)]
        torch.ge(torch.stack(halves, dim=1), threshold(p), out=part)
    return found.view(rows, groups * 8)[:, :columns]
