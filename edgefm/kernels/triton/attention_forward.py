"""The forward pass of attention, and the two reductions of its map that need each row's lse first.

Not the launch: see `attention.py`. One program makes one block of rows (or columns) of one head.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .attention_tiles import bias_of, head_of, lse_of, rows_of, scores_of, store_rows


@triton.jit
def forward_kernel(
    q, k, v, bias, out, lse, n, heads, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, bias_b, bias_h, bias_n, out_b, out_h, out_n,
    D: tl.constexpr, DP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out and lse of ROWS queries: the keys go by in blocks, the running maximum m and sum l are kept (FlashAttention-2)."""
    blocks = tl.cdiv(n, ROWS)
    head = tl.program_id(0) // blocks
    rows = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    k_head = head_of(k, head, heads, k_b, k_h)
    v_head = head_of(v, head, heads, v_b, v_h)
    bias_head = head_of(bias, head, heads, bias_b, bias_h)
    q_tile = rows_of(head_of(q, head, heads, q_b, q_h), q_n, rows, n, D, DP)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    l = tl.zeros([ROWS], tl.float32)  # noqa: E741 - the paper's name
    acc = tl.zeros([ROWS, DP], tl.float32)
    for start in range(0, n, COLS):
        cols = start + tl.arange(0, COLS)
        k_tile = rows_of(k_head, k_n, cols, n, D, DP)
        s = scores_of(q_tile, k_tile, bias_head, bias_n, rows[:, None], cols[None, :], n, scale, BIAS, PRECISION)
        m_next = tl.maximum(m, tl.max(s, 1))
        shift = m_next
        if BIAS:
            shift = tl.where(m_next == float("-inf"), 0.0, m_next)  # −inf − −inf would be NaN
        p = tl.exp2(s - shift[:, None])
        shrink = tl.exp2(m - shift)
        l = l * shrink + tl.sum(p, 1)  # noqa: E741
        v_tile = rows_of(v_head, v_n, cols, n, D, DP)
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * shrink[:, None], input_precision=PRECISION)
        m = m_next
    acc = acc / tl.where(l == 0.0, 1.0, l)[:, None]
    store_rows(head_of(out, head, heads, out_b, out_h), out_n, rows, acc, n, D, DP)
    # m is −inf where l is 0, and so is the sum
    tl.store(lse + head.to(tl.int64) * n + rows, (m + tl.log2(l)) * 0.6931471805599453, mask=rows < n)


@triton.jit
def importance_kernel(
    q, k, bias, lse, importance, n, heads, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, bias_b, bias_h, bias_n,
    D: tl.constexpr, DP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The importance of COLS tokens: the queries go by in blocks, Pᵀ is summed in registers and reduced once at the end."""
    blocks = tl.cdiv(n, COLS)
    head = tl.program_id(0) // blocks
    cols = (tl.program_id(0) % blocks) * COLS + tl.arange(0, COLS)
    q_head = head_of(q, head, heads, q_b, q_h)
    bias_head = head_of(bias, head, heads, bias_b, bias_h)
    lse_head = lse + head.to(tl.int64) * n
    k_tile = rows_of(head_of(k, head, heads, k_b, k_h), k_n, cols, n, D, DP)
    total = tl.zeros([COLS, ROWS], tl.float32)
    for start in range(0, n, ROWS):
        rows = start + tl.arange(0, ROWS)
        q_tile = rows_of(q_head, q_n, rows, n, D, DP)
        s = scores_of(k_tile, q_tile, bias_head, bias_n, rows[None, :], cols[:, None], n, scale, BIAS, PRECISION)
        total += tl.exp2(s - lse_of(lse_head, rows, n)[None, :])
    tl.store(importance + head.to(tl.int64) * n + cols, tl.sum(total, 1) / n, mask=cols < n)


@triton.jit
def cls_row_kernel(
    q, k, bias, lse, cls_row, n, heads, scale,
    q_b, q_h, k_b, k_h, k_n, bias_b, bias_h,
    D: tl.constexpr, DP: tl.constexpr, COLS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """COLS values of the map's row 0: one query, so no matrix unit; K is read once."""
    blocks = tl.cdiv(n, COLS)
    head = tl.program_id(0) // blocks
    cols = (tl.program_id(0) % blocks) * COLS + tl.arange(0, COLS)
    dims = tl.arange(0, DP)
    q_row = tl.load(head_of(q, head, heads, q_b, q_h) + dims, mask=dims < D, other=0.0).to(tl.float32)
    k_tile = rows_of(head_of(k, head, heads, k_b, k_h), k_n, cols, n, D, DP).to(tl.float32)
    s = tl.sum(k_tile * q_row[None, :], 1) * (scale * 1.4426950408889634)
    if BIAS:
        s += bias_of(head_of(bias, head, heads, bias_b, bias_h), 0, cols * 0, cols, n)
    row = head.to(tl.int64) * n
    tl.store(cls_row + row + cols, tl.exp2(s - lse_of(lse + row, 0, n)), mask=cols < n)
