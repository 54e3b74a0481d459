"""The wide product with everything that belongs to it: act(x Wᵀ + bias + mask ∘ (u Vᵀ)), or its backward, in one kernel.

Not the thin products u and v (`low_rank.py`). The low-rank term is what the accumulator starts from, so it costs one step of
the loop and no registers; then K is run through, then the epilogue. With BASE the sum starts from a product that cuBLAS
made and there is no loop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from .activation import CODE, store_backward, unary
from .dropout import kept
from .low_rank import rank_block


class Tile(NamedTuple):
    """Blocks of the output's rows and columns and of K, warps, stages of the loop, rows of blocks that share W in L2."""

    m: int
    n: int
    k: int
    warps: int
    stages: int
    group: int = 8


@triton.jit
def product_kernel(
    x, w, bias, u, v, bits, index, z, out, base, M, N, K, R, r, stride_n, stride_k, stride_vn, stride_vr, words,
    BASE: tl.constexpr, BIAS: tl.constexpr, LOW: tl.constexpr, DROP: tl.constexpr, INDEX: tl.constexpr, ACT: tl.constexpr,
    BACK: tl.constexpr, EVEN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """x `[M, K]`, w `[N, K]` strided, bias `[N]`, u `[M, R]`, v `[N, R]` strided, bits of `[M, N]`, index `[M]`.

    Forward: out `[M, N]` = act(s) and, with an activation, z = s. BACK: out = act'(z) s. Gated activations are passes of their
    own: their two halves beside the sum do not fit the registers.
    """
    blocks_m, blocks_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    group, inner = tl.program_id(0) // (GROUP * blocks_n), tl.program_id(0) % (GROUP * blocks_n)
    height = tl.minimum(blocks_m - group * GROUP, GROUP)
    start = (group * GROUP + inner % height).to(tl.int64) * BM
    columns = inner // height * BN + tl.arange(0, BN)
    rows = tl.arange(0, BM)
    there = tl.minimum(rows, M - 1 - start).to(tl.int32)
    here = columns % N  # unlike a minimum this keeps what is known of neighbours, so W's loads stay wide
    x += start * K
    acc = tl.zeros((BM, BN), tl.float32)
    if LOW:
        u += start * R
        chunk, chunks = 0, tl.cdiv(R, BR)
        if INDEX:  # only the ranks of adapters that a row of this block uses: u is zero in the others
            own = tl.load(index + start + there)
            chunk = tl.maximum(tl.min(own, 0), 0) * r // BR
            chunks = tl.minimum(chunks, tl.maximum(tl.max(own, 0) + 1, 0) * r // BR + 1)
        for c in tl.range(chunk, chunks, num_stages=1):
            ranks = c * BR + tl.arange(0, BR)
            left = tl.load(u + there[:, None] * R + ranks[None, :], mask=(ranks < R)[None, :], other=0.0)
            right = tl.load(v + here[None, :] * stride_vn + ranks[:, None] * stride_vr, mask=(ranks < R)[:, None], other=0.0)
            acc = tl.dot(left, right, acc, input_precision="ieee")
        if DROP:
            acc = tl.where(kept(bits + start * words, there, inner // height * BN, words, BN), acc, 0.0)
    at = (start + rows)[:, None] * N + columns[None, :]
    inside = (start + rows < M)[:, None] & (columns < N)[None, :]
    if BASE:
        acc += tl.load(base + at, mask=inside, other=0.0).to(tl.float32)
    else:
        k = tl.arange(0, BK)
        tiles_x = x + there[:, None] * K + k[None, :]
        tiles_w = w + here[None, :].to(tl.int64) * stride_n + k[:, None].to(tl.int64) * stride_k
        for step in range(tl.cdiv(K, BK)):
            if EVEN:
                left, right = tl.load(tiles_x), tl.load(tiles_w)
            else:
                left = tl.load(tiles_x, mask=(step * BK + k < K)[None, :], other=0.0)
                right = tl.load(tiles_w, mask=(step * BK + k < K)[:, None], other=0.0)
            acc = tl.dot(left, right, acc, input_precision="ieee")
            tiles_x += BK
            tiles_w += BK * stride_k
    if BIAS:
        acc += tl.load(bias + here).to(tl.float32)[None, :]
    if BACK:
        store_backward(acc, z, out, at, inside, N, ACT)
    else:
        if ACT:
            tl.store(z + at, acc.to(z.dtype.element_ty), mask=inside)
            acc = unary(acc, ACT)
        tl.store(out + at, acc.to(out.dtype.element_ty), mask=inside)


def product(x, w, out, tile: Tile, *, bias=None, u=None, v=None, bits=None, index=None, r=1, z=None, activation="none",
            back=False, base=None) -> torch.Tensor:  # fmt: skip
    """Fill `out` (see `product_kernel`) and return it. w: `[N, K]` of any strides; base: x Wᵀ if it is there already."""
    (m, k), n = x.shape, w.shape[0]
    ranks = 0 if u is None else u.shape[1]
    given = [x if tensor is None else tensor for tensor in (bias, u, v, bits, index, z)]
    product_kernel[(-(-m // tile.m) * -(-n // tile.n),)](
        x, w, *given, out, x if base is None else base, m, n, k, ranks, r, *w.stride(), *(v.stride() if ranks else (0, 0)),
        -(-n // 32), base is not None, bias is not None, ranks > 0, bits is not None, index is not None, CODE[activation], back,
        k % tile.k == 0, tile.m, tile.n, tile.k, rank_block(ranks), tile.group, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out
