"""What the kernels of `attention_kl` share: a block of q or k, and scores in base 2.

Not the divergence: `attention_kl_pairs.py` and `attention_kl_mean.py`. Scores are q kᵀ · scale · log2(e) / T in fp32, so that
a probability is one exp2; the product takes its operands as they are, fp32 as three TF32 products (tf32x3), which keep its
error.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The columns kernels hold probabilities times 2^LIFT, so that differences of theirs stay normal numbers in fp16.
LIFT = tl.constexpr(10.0)


@triton.jit
def block(x, at, count, stride, D: tl.constexpr, BD: tl.constexpr):
    """Rows `at` of x `[count, D]` as `[len(at), BD]`; 0 beyond."""
    columns = tl.arange(0, BD)
    inside = (at < count)[:, None]
    if D != BD:
        inside = inside & (columns < D)[None, :]
    return tl.load(x + at[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def save(x, value, at, count, D: tl.constexpr, BD: tl.constexpr):
    """Write `[len(at), BD]` to rows `at` of a contiguous x `[count, D]`."""
    columns = tl.arange(0, BD)
    inside = (at < count)[:, None] & (columns < D)[None, :]
    tl.store(x + at[:, None] * D + columns[None, :], value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def scores(left, right, scale):
    """left rightᵀ · scale, fp32: `[rows of left, rows of right]`."""
    return tl.dot(left, tl.trans(right), input_precision="tf32x3") * scale


@triton.jit
def tokens_of(lengths, image, N, LENGTHS: tl.constexpr):
    """How many tokens of the image are valid."""
    n = N
    if LENGTHS:
        n = tl.minimum(tl.load(lengths + image), N)
    return n


@triton.jit
def lse_kernel(
    q, k, lengths, lse, mean, qb, qh, qn, kb, kh, kn, H, N, scale,
    D: tl.constexpr, BD: tl.constexpr, LENGTHS: tl.constexpr, MEAN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """lse `[B, H, N]` of each row of scores in base 2; with MEAN, the mean of k under the row's softmax, fp32 `[B, H, N, D]`.

    One program: BM rows of one head, all columns.
    """
    blocks = tl.cdiv(N, BM)
    head = tl.program_id(0) // blocks
    image, own = (head // H).to(tl.int64), (head % H).to(tl.int64)
    rows = tl.program_id(0) % blocks * BM + tl.arange(0, BM)
    n = tokens_of(lengths, image, N, LENGTHS)
    q += image * qb + own * qh
    k += image * kb + own * kh
    query = block(q, rows, n, qn, D, BD)
    top = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, BD), tl.float32)
    for start in range(0, n, BN):
        columns = start + tl.arange(0, BN)
        key = block(k, columns, n, kn, D, BD)
        s = tl.where((columns < n)[None, :], scores(query, key, scale), float("-inf"))
        higher = tl.maximum(top, tl.max(s, 1))
        fade = tl.exp2(top - higher)
        e = tl.exp2(s - higher[:, None])
        total = total * fade + tl.sum(e, 1)
        if MEAN:
            acc = tl.dot(e.to(key.dtype), key, acc * fade[:, None], input_precision="tf32x3")
        top = higher
    at = head.to(tl.int64) * N
    tl.store(lse + at + rows, tl.where(rows < n, top + tl.log2(total), 0.0), mask=rows < N)
    if MEAN:
        save(mean + at * D, tl.where((rows < n)[:, None], acc / total[:, None], 0.0), rows, N, D, BD)
