"""The backward pass of attention in three kernels: by rows (dQ), by columns (dK, dV), by tiles (dBias of a repeated bias).

Not the launch: see `attention.py`. Nothing is added up by atomics, so the gradients are the same in every run: each kernel
makes the scores anew from lse, and the first writes Δ for the other two. Symbols as in `ops/attention.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .attention_tiles import bias_of, head_of, lse_of, rows_of, scores_of, store_rows


@triton.jit
def rows_kernel(
    q, k, v, bias, out, lse, d_out, d_lse, d_cls_row, delta, dq, d_bias, n, heads, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, bias_b, bias_h, bias_n, out_b, out_h, out_n,
    d_out_b, d_out_h, d_out_n, dq_b, dq_h, dq_n,
    D: tl.constexpr, DP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
    BIAS: tl.constexpr, BIAS_GRADIENT: tl.constexpr, CLS_ROW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dQ and Δ of ROWS queries; also dS itself, where the bias is `[B, H, N, N]` and dS is its gradient."""
    blocks = tl.cdiv(n, ROWS)
    head = tl.program_id(0) // blocks
    rows = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    row = head.to(tl.int64) * n
    k_head = head_of(k, head, heads, k_b, k_h)
    v_head = head_of(v, head, heads, v_b, v_h)
    bias_head = head_of(bias, head, heads, bias_b, bias_h)
    q_tile = rows_of(head_of(q, head, heads, q_b, q_h), q_n, rows, n, D, DP)
    d_out_tile = rows_of(head_of(d_out, head, heads, d_out_b, d_out_h), d_out_n, rows, n, D, DP)
    out_tile = rows_of(head_of(out, head, heads, out_b, out_h), out_n, rows, n, D, DP)
    # Σ_j P_ij (dOut_i · V_j) is dOut_i · out_i; d_lse holds what lse and cls_row bring
    delta_rows = tl.sum(out_tile.to(tl.float32) * d_out_tile.to(tl.float32), 1)
    delta_rows -= tl.load(d_lse + row + rows, mask=rows < n, other=0.0)
    tl.store(delta + row + rows, delta_rows, mask=rows < n)
    lse_rows = lse_of(lse + row, rows, n)
    acc = tl.zeros([ROWS, DP], tl.float32)
    for start in range(0, n, COLS):
        cols = start + tl.arange(0, COLS)
        k_tile = rows_of(k_head, k_n, cols, n, D, DP)
        v_tile = rows_of(v_head, v_n, cols, n, D, DP)
        s = scores_of(q_tile, k_tile, bias_head, bias_n, rows[:, None], cols[None, :], n, scale, BIAS, PRECISION)
        p = tl.exp2(s - lse_rows[:, None])
        dp = tl.dot(d_out_tile, tl.trans(v_tile), input_precision=PRECISION)
        if CLS_ROW:
            dp += tl.where(rows[:, None] == 0, tl.load(d_cls_row + row + cols, mask=cols < n, other=0.0)[None, :], 0.0)
        ds = p * (dp - delta_rows[:, None])
        if BIAS_GRADIENT:
            place = d_bias + row * n + rows[:, None] * n + cols[None, :]
            tl.store(place, ds.to(d_bias.dtype.element_ty), mask=(rows[:, None] < n) & (cols[None, :] < n))
        acc = tl.dot(ds.to(k_tile.dtype), k_tile, acc, input_precision=PRECISION)
    store_rows(head_of(dq, head, heads, dq_b, dq_h), dq_n, rows, acc * scale, n, D, DP)


@triton.jit
def columns_kernel(
    q, k, v, bias, lse, d_out, d_cls_row, delta, dk, dv, n, heads, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, bias_b, bias_h, bias_n, d_out_b, d_out_h, d_out_n, dk_b, dk_h, dk_n,
    D: tl.constexpr, DP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
    BIAS: tl.constexpr, CLS_ROW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dK and dV of COLS keys. The tiles are transposed, `[COLS, ROWS]`, so that Pᵀ and dSᵀ stay in registers."""
    blocks = tl.cdiv(n, COLS)
    head = tl.program_id(0) // blocks
    cols = (tl.program_id(0) % blocks) * COLS + tl.arange(0, COLS)
    row = head.to(tl.int64) * n
    q_head = head_of(q, head, heads, q_b, q_h)
    d_out_head = head_of(d_out, head, heads, d_out_b, d_out_h)
    bias_head = head_of(bias, head, heads, bias_b, bias_h)
    k_tile = rows_of(head_of(k, head, heads, k_b, k_h), k_n, cols, n, D, DP)
    v_tile = rows_of(head_of(v, head, heads, v_b, v_h), v_n, cols, n, D, DP)
    dk_acc = tl.zeros([COLS, DP], tl.float32)
    dv_acc = tl.zeros([COLS, DP], tl.float32)
    for start in range(0, n, ROWS):
        rows = start + tl.arange(0, ROWS)
        q_tile = rows_of(q_head, q_n, rows, n, D, DP)
        d_out_tile = rows_of(d_out_head, d_out_n, rows, n, D, DP)
        s = scores_of(k_tile, q_tile, bias_head, bias_n, rows[None, :], cols[:, None], n, scale, BIAS, PRECISION)
        p = tl.exp2(s - lse_of(lse + row, rows, n)[None, :])
        dv_acc = tl.dot(p.to(d_out_tile.dtype), d_out_tile, dv_acc, input_precision=PRECISION)
        dp = tl.dot(v_tile, tl.trans(d_out_tile), input_precision=PRECISION)
        if CLS_ROW:
            dp += tl.where(rows[None, :] == 0, tl.load(d_cls_row + row + cols, mask=cols < n, other=0.0)[:, None], 0.0)
        ds = p * (dp - tl.load(delta + row + rows, mask=rows < n, other=0.0)[None, :])
        dk_acc = tl.dot(ds.to(q_tile.dtype), q_tile, dk_acc, input_precision=PRECISION)
    store_rows(head_of(dk, head, heads, dk_b, dk_h), dk_n, cols, dk_acc * scale, n, D, DP)
    store_rows(head_of(dv, head, heads, dk_b, dk_h), dk_n, cols, dv_acc, n, D, DP)


@triton.jit
def tiles_kernel(
    q, k, v, bias, lse, d_out, d_cls_row, delta, d_bias, n, heads, scale, planes, bias_heads, repeats, share,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, bias_b, bias_h, bias_n, d_out_b, d_out_h, d_out_n,
    D: tl.constexpr, DP: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
    CLS_ROW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of dBias: Σ dS over `share` of the `repeats` heads that read this plane of the bias, which is loaded once.

    d_bias is `[parts, planes, N, N]`, parts = ceil(repeats / share); the parts are added up after this. The products go
    over the head in pieces of CHUNK values.
    """
    across, down = tl.cdiv(n, COLS), tl.cdiv(n, ROWS)
    tile = tl.program_id(0) % (across * down)
    plane = tl.program_id(0) // (across * down) % planes
    part = tl.program_id(0) // (across * down) // planes
    rows = (tile // across) * ROWS + tl.arange(0, ROWS)
    cols = (tile % across) * COLS + tl.arange(0, COLS)
    bias_tile = bias_of(head_of(bias, plane, bias_heads, bias_b, bias_h), bias_n, rows[:, None], cols[None, :], n)
    head_repeats = heads // bias_heads
    acc = tl.zeros([ROWS, COLS], tl.float32)
    for repeat in range(part * share, tl.minimum(part * share + share, repeats)):
        # a bias of one image takes its batch index from the repeat, one of B images from the plane; heads likewise
        image = plane // bias_heads + repeat // head_repeats
        head = image * heads + plane % bias_heads + repeat % head_repeats
        row = head.to(tl.int64) * n
        q_head, k_head = head_of(q, head, heads, q_b, q_h), head_of(k, head, heads, k_b, k_h)
        d_out_head, v_head = head_of(d_out, head, heads, d_out_b, d_out_h), head_of(v, head, heads, v_b, v_h)
        s = tl.zeros([ROWS, COLS], tl.float32)
        dp = tl.zeros([ROWS, COLS], tl.float32)
        for d in tl.static_range(0, DP, CHUNK):
            q_tile, k_tile = rows_of(q_head + d, q_n, rows, n, D - d, CHUNK), rows_of(k_head + d, k_n, cols, n, D - d, CHUNK)
            s = tl.dot(q_tile, tl.trans(k_tile), s, input_precision=PRECISION)
            d_out_tile = rows_of(d_out_head + d, d_out_n, rows, n, D - d, CHUNK)
            v_tile = rows_of(v_head + d, v_n, cols, n, D - d, CHUNK)
            dp = tl.dot(d_out_tile, tl.trans(v_tile), dp, input_precision=PRECISION)
        p = tl.exp2(s * (scale * 1.4426950408889634) + bias_tile - lse_of(lse + row, rows, n)[:, None])
        if CLS_ROW:
            dp += tl.where(rows[:, None] == 0, tl.load(d_cls_row + row + cols, mask=cols < n, other=0.0)[None, :], 0.0)
        acc += p * (dp - tl.load(delta + row + rows, mask=rows < n, other=0.0)[:, None])
    place = d_bias + (part * planes + plane).to(tl.int64) * n * n + rows[:, None] * n + cols[None, :]
    tl.store(place, acc.to(d_bias.dtype.element_ty), mask=(rows[:, None] < n) & (cols[None, :] < n))
