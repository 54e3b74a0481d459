"""The two thin products of LoRA, each one pass over the wide matrix: `narrow` = (mask ∘ x) Aᵀ and `tall` = uᵀ (mask ∘ act(x)).

Not the wide product with the base weight (`product.py`). Both are bound by memory: they read x once, and 1/16 of it in bits,
whose words run ahead of the loop in shared memory as x does.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .activation import CODE, load_activated
from .dropout import kept

# Blocks of x. `narrow` takes few rows, so that 12,600 make 394 programs, three to each of an H100's 132 processors; three
# steps in flight of either fit 99 KiB in 16 bits.
NARROW_ROWS, ROWS, COLUMNS = 32, 64, 128
# Programs of `tall`: two to each processor. The same on every card, so that sums have the same order.
PROGRAMS = 264


@triton.jit
def narrow_kernel(
    x, a, bits, index, u, M, K, R, r, stride_r, stride_k, words, scale,
    DROP: tl.constexpr, INDEX: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """u `[M, R]` = scale · (mask ∘ x) Aᵀ, zero where the column is not of the row's adapter; x `[M, K]`, A `[R, K]` strided."""
    start = tl.program_id(0).to(tl.int64) * BM
    rows, ranks = tl.arange(0, BM), tl.program_id(1) * BR + tl.arange(0, BR)
    there = tl.minimum(rows, M - 1 - start).to(tl.int32)
    x += start * K
    bits += start * words
    steps = tl.cdiv(K, BK)
    own = (ranks < R)[None, :]
    if INDEX:
        own = own & ((ranks // r)[None, :] == tl.load(index + start + there)[:, None])
        if tl.max(tl.max(own.to(tl.int32), 1), 0) == 0:
            steps = 0
    acc = tl.zeros((BM, BR), tl.float32)
    for k in range(steps):
        columns = k * BK + tl.arange(0, BK)
        tile = tl.load(x + there[:, None] * K + columns[None, :], mask=(columns < K)[None, :], other=0.0)
        if DROP:
            tile = tl.where(kept(bits, there, k * BK, words, BK), tile, 0.0)
        factor = tl.load(
            a + ranks[None, :] * stride_r + columns[:, None] * stride_k,
            mask=(ranks < R)[None, :] & (columns < K)[:, None], other=0.0,
        )  # fmt: skip
        acc = tl.dot(tile, factor, acc, input_precision="ieee")
    acc = tl.where(own, acc * scale, 0.0)
    to = u + (start + rows)[:, None] * R + ranks[None, :]
    tl.store(to, acc.to(u.dtype.element_ty), mask=(start + rows < M)[:, None] & (ranks < R)[None, :])


@triton.jit
def tall_kernel(
    x, u, bits, parts, M, N, R, wide, words, span,
    DROP: tl.constexpr, ACT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """parts[s] `[R, N]` = uᵀ (mask ∘ act(x)) over rows s · span to (s + 1) · span; x `[M, wide]`, wide = N or gated 2 N."""
    columns, ranks = tl.program_id(0) * BN + tl.arange(0, BN), tl.program_id(2) * BR + tl.arange(0, BR)
    first, rows = tl.program_id(1).to(tl.int64) * span, tl.arange(0, BM)
    left = tl.minimum(span, M - first).to(tl.int32)
    x += first * wide
    u += first * R
    bits += first * words
    at = rows[:, None] * wide + columns[None, :]
    acc = tl.zeros((BR, BN), tl.float32)
    for start in range(0, left, BM):
        here = rows < left - start
        inside = here[:, None] & (columns < N)[None, :]
        factor = tl.load(u + rows[None, :] * R + ranks[:, None], mask=here[None, :] & (ranks < R)[:, None], other=0.0)
        if ACT:
            tile = load_activated(x, at, inside, N, ACT).to(u.dtype.element_ty)
        else:
            tile = tl.load(x + at, mask=inside, other=0.0)
        if DROP:
            there = tl.minimum(rows, left - start - 1)
            tile = tl.where(kept(bits, there, tl.program_id(0) * BN, words, BN), tile, 0.0)
        acc = tl.dot(factor, tile, acc, input_precision="ieee")
        x += BM * wide
        u += BM * R
        bits += BM * words
    to = parts + (tl.program_id(1).to(tl.int64) * R + ranks)[:, None] * N + columns[None, :]
    tl.store(to, acc, mask=(ranks < R)[:, None] & (columns < N)[None, :])


def narrow(x, a, scale: float, bits=None, index=None, r: int = 1) -> torch.Tensor:
    """scale · (mask ∘ x) Aᵀ, `[M, R]` in x's dtype: x `[M, K]`, a `[R, K]` of any strides, bits of `keep_bits`, r: one
    adapter's rank where index `[M]` says which rows are whose."""
    (m, k), ranks = x.shape, a.shape[0]
    u = x.new_empty(m, ranks)
    block = rank_block(ranks)
    narrow_kernel[-(-m // NARROW_ROWS), -(-ranks // block)](
        x, a, x if bits is None else bits, x if index is None else index, u, m, k, ranks, r, *a.stride(), -(-k // 32), scale,
        bits is not None, index is not None, NARROW_ROWS, columns_at_once(x, block), block, num_warps=4, num_stages=3,
    )  # fmt: skip
    return u


def tall(u, x, activation: str = "none", bits=None) -> torch.Tensor:
    """uᵀ (mask ∘ act(x)), fp32 `[R, N]`: u `[M, R]`, x `[M, N]`, gated `[M, 2 N]`; summed in an order that does not vary."""
    (m, ranks), wide = u.shape, x.shape[1]
    n = wide // 2 if CODE[activation] >= CODE["swiglu"] else wide
    if not m:
        return torch.zeros(ranks, n, device=x.device)
    block = rank_block(ranks)
    rows = rows_at_once(x)
    strips, steps = -(-n // COLUMNS), -(-m // rows)
    span = -(-steps // max(1, min(steps, PROGRAMS // strips))) * rows
    parts = torch.empty(-(-m // span), ranks, n, dtype=torch.float32, device=x.device)
    tall_kernel[strips, len(parts), -(-ranks // block)](
        x, u, x if bits is None else bits, parts, m, n, ranks, wide, -(-n // 32), span,
        bits is not None, CODE[activation], rows, COLUMNS, block, num_warps=tall_warps(activation, block), num_stages=3,
    )  # fmt: skip
    return parts.sum(0)


def rank_block(ranks: int) -> int:
    """Ranks at once: a power of two from 16, the least that matrix instructions take, to 64."""
    return min(64, max(16, 1 << (ranks - 1).bit_length()))


def tall_warps(activation: str, block: int) -> int:
    """Twice as many for 64 ranks, which fill four warps' registers, and for gelu and silu, whose arithmetic outweighs loads."""
    return 8 if activation in ("gelu", "silu") or block >= 64 else 4


def columns_at_once(x: torch.Tensor, block: int) -> int:
    """Columns of x and A in one step of `narrow`: fewer where the tiles are larger, so that three steps fit 99 KiB."""
    return COLUMNS if x.element_size() == 2 and block <= 32 else COLUMNS // 2


def rows_at_once(x: torch.Tensor) -> int:
    """Rows of x in one step of `tall`: half as many in fp32, so that three steps fit 99 KiB, of a gated activation too."""
    return ROWS if x.element_size() == 2 else ROWS // 2
