"""What all kernels of attention share: where a head lies, a tile of its rows, a tile of its scores.

Not a kernel. Scores are held in base 2, S · log2 e, because the hardware has exp2 only.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def head_of(pointer, index, heads, stride_b, stride_h):
    """Where head `index` (of B · H) begins; in 64 bits, a batch may hold more than 2³¹ values."""
    return pointer + (index // heads).to(tl.int64) * stride_b + (index % heads).to(tl.int64) * stride_h


@triton.jit
def rows_of(head, stride, rows, n, D: tl.constexpr, DP: tl.constexpr):
    """Rows of a head, `[rows, DP]`; zeros from row n and from value D on."""
    dims = tl.arange(0, DP)
    mask = rows[:, None] < n
    if D < DP:
        mask = mask & (dims[None, :] < D)
    return tl.load(head + rows[:, None] * stride + dims[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(head, stride, rows, values, n, D: tl.constexpr, DP: tl.constexpr):
    """Write `[rows, DP]` where `rows_of` would read it."""
    dims = tl.arange(0, DP)
    mask = rows[:, None] < n
    if D < DP:
        mask = mask & (dims[None, :] < D)
    tl.store(head + rows[:, None] * stride + dims[None, :], values.to(head.dtype.element_ty), mask=mask)


@triton.jit
def bias_of(bias, stride, rows, cols, n):
    """A tile of the bias in base 2. Its columns are padded with −inf in memory, so that whole lines are read without a mask."""
    return tl.load(bias + rows * stride + cols, mask=rows < n, other=0.0).to(tl.float32) * 1.4426950408889634


@triton.jit
def scores_of(a, b, bias, stride, rows, cols, n, scale, BIAS: tl.constexpr, PRECISION: tl.constexpr):
    """Scores in base 2, −inf from column n on: `[rows, 1]` and `[1, cols]` for a = q, b = k; `[1, rows]`, `[cols, 1]` else."""
    s = tl.dot(a, tl.trans(b), input_precision=PRECISION) * (scale * 1.4426950408889634)
    if BIAS:
        s += bias_of(bias, stride, rows, cols, n)
    else:
        s = tl.where(cols < n, s, float("-inf"))
    return s


@triton.jit
def lse_of(lse, rows, n):
    """lse in base 2; +inf where a row attends to nothing or is none, so that exp2(S − lse) is 0 there."""
    values = tl.load(lse + rows, mask=rows < n, other=float("inf"))
    return tl.where(values == float("-inf"), float("inf"), values) * 1.4426950408889634
