"""KL of attention maps in pairs of heads, as two kernels: rows (value, gradient of q) and columns (gradient of k).

Not the launches: `attention_kl.py`. The value of a row is (sum_j p_t (t - s)) - lse_t + lse_s with scores t and s, whose sum is
kept relative to the teacher's largest score as in an online softmax; the gradient of q is the difference of the means of k
under both softmaxes, so one pass over the columns gives all of it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .attention_scores import LIFT, block, save, scores, tokens_of


@triton.jit
def pairs_rows_kernel(
    q_s, k_s, q_t, k_t, lengths, pairs, parts, lse_s, lse_t, near,
    qsb, qsh, qsn, ksb, ksh, ksn, qtb, qth, qtn, ktb, kth, ktn, H, N, scale_s, scale_t, weight, slope,
    DS: tl.constexpr, BDS: tl.constexpr, DT: tl.constexpr, BDT: tl.constexpr, LENGTHS: tl.constexpr, PAIRS: tl.constexpr,
    GRADIENT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program: BM rows of one pair. parts `[programs]`: its rows' KL · weight / n. GRADIENT: lse_s, lse_t `[B, H, N]` and
    near `[B, H, N, DS]` = slope · N / n · (mean of k_s under p_s - under p_t)."""
    blocks = tl.cdiv(N, BM)
    head = tl.program_id(0) // blocks
    image, own = (head // H).to(tl.int64), (head % H).to(tl.int64)
    other = own
    if PAIRS:
        other = tl.load(pairs + own).to(tl.int64)
    rows = tl.program_id(0) % blocks * BM + tl.arange(0, BM)
    n = tokens_of(lengths, image, N, LENGTHS)
    k_s += image * ksb + own * ksh
    k_t += image * ktb + other * kth
    query_s = block(q_s + image * qsb + own * qsh, rows, n, qsn, DS, BDS)
    query_t = block(q_t + image * qtb + other * qth, rows, n, qtn, DT, BDT)
    top_s = tl.full((BM,), float("-inf"), tl.float32)
    top_t = tl.full((BM,), float("-inf"), tl.float32)
    total_s = tl.zeros((BM,), tl.float32)
    total_t = tl.zeros((BM,), tl.float32)
    gap = tl.zeros((BM,), tl.float32)
    acc_s = tl.zeros((BM, BDS), tl.float32)
    acc_t = tl.zeros((BM, BDS), tl.float32)
    for start in range(0, n, BN):
        columns = start + tl.arange(0, BN)
        inside = (columns < n)[None, :]
        key = block(k_s, columns, n, ksn, DS, BDS)
        s = scores(query_s, key, scale_s)
        t = scores(query_t, block(k_t, columns, n, ktn, DT, BDT), scale_t)
        difference = t - s
        s = tl.where(inside, s, float("-inf"))
        t = tl.where(inside, t, float("-inf"))
        higher_s = tl.maximum(top_s, tl.max(s, 1))
        higher_t = tl.maximum(top_t, tl.max(t, 1))
        fade_s, fade_t = tl.exp2(top_s - higher_s), tl.exp2(top_t - higher_t)
        e_s, e_t = tl.exp2(s - higher_s[:, None]), tl.exp2(t - higher_t[:, None])
        total_s = total_s * fade_s + tl.sum(e_s, 1)
        total_t = total_t * fade_t + tl.sum(e_t, 1)
        gap = gap * fade_t + tl.sum(e_t * difference, 1)
        if GRADIENT:
            acc_s = tl.dot(e_s.to(key.dtype), key, acc_s * fade_s[:, None], input_precision="tf32x3")
            acc_t = tl.dot(e_t.to(key.dtype), key, acc_t * fade_t[:, None], input_precision="tf32x3")
        top_s, top_t = higher_s, higher_t
    sum_s, sum_t = top_s + tl.log2(total_s), top_t + tl.log2(total_t)
    divergence = tl.where(rows < n, gap / total_t - sum_t + sum_s, 0.0)
    count = tl.maximum(n, 1).to(tl.float32)
    tl.store(parts + tl.program_id(0), tl.sum(divergence, 0) * (weight / count))
    if GRADIENT:
        at = head.to(tl.int64) * N
        tl.store(lse_s + at + rows, tl.where(rows < n, sum_s, 0.0), mask=rows < N)
        tl.store(lse_t + at + rows, tl.where(rows < n, sum_t, 0.0), mask=rows < N)
        gradient = (acc_s / total_s[:, None] - acc_t / total_t[:, None]) * (slope * N / count)
        save(near + at * DS, tl.where((rows < n)[:, None], gradient, 0.0), rows, N, DS, BDS)


@triton.jit
def pairs_columns_kernel(
    g, q_s, k_s, q_t, k_t, lengths, pairs, lse_s, lse_t, near, dq, dk,
    qsb, qsh, qsn, ksb, ksh, ksn, qtb, qth, qtn, ktb, kth, ktn, H, N, scale_s, scale_t, weight, slope,
    DS: tl.constexpr, BDS: tl.constexpr, DT: tl.constexpr, BDT: tl.constexpr, LENGTHS: tl.constexpr, PAIRS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program: BN columns of one pair; dk = g · weight / n · slope · (p_s - p_t)ᵀ q_s, and dq = g · weight / N · near for
    the rows of the same numbers. Tiles are transposed: `[BN, BM]`."""
    blocks = tl.cdiv(N, BN)
    head = tl.program_id(0) // blocks
    image, own = (head // H).to(tl.int64), (head % H).to(tl.int64)
    other = own
    if PAIRS:
        other = tl.load(pairs + own).to(tl.int64)
    columns = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    n = tokens_of(lengths, image, N, LENGTHS)
    at = head.to(tl.int64) * N
    q_s += image * qsb + own * qsh
    q_t += image * qtb + other * qth
    key_s = block(k_s + image * ksb + own * ksh, columns, n, ksn, DS, BDS)
    key_t = block(k_t + image * ktb + other * kth, columns, n, ktn, DT, BDT)
    acc = tl.zeros((BN, BDS), tl.float32)
    for start in range(0, n, BM):
        rows = start + tl.arange(0, BM)  # beyond n q is 0: a probability of 1 there adds nothing
        query = block(q_s, rows, n, qsn, DS, BDS)
        sum_s = tl.load(lse_s + at + rows, mask=rows < n, other=0.0) - LIFT
        sum_t = tl.load(lse_t + at + rows, mask=rows < n, other=0.0) - LIFT
        p_s = tl.exp2(scores(key_s, query, scale_s) - sum_s[None, :])
        p_t = tl.exp2(scores(key_t, block(q_t, rows, n, qtn, DT, BDT), scale_t) - sum_t[None, :])
        acc = tl.dot((p_s - p_t).to(query.dtype), query, acc, input_precision="tf32x3")
    factor = tl.load(g).to(tl.float32) * weight
    count = tl.maximum(n, 1).to(tl.float32)
    lowered = factor * slope / count * tl.exp2(-LIFT)
    save(dk + at * DS, tl.where((columns < n)[:, None], acc * lowered, 0.0), columns, N, DS, BDS)
    save(dq + at * DS, block(near + at * DS, columns, N, DS, DS, BDS).to(tl.float32) * (factor / N), columns, N, DS, BDS)
