"""KL of attention maps averaged over heads, as two kernels: rows (value, gradient of q) and columns (gradient of k).

Not the launches (`attention_kl.py`), and not the log-sum-exps and means of k, which come first (`attention_scores.py`).
A tile is the mean over all heads at one place of the map; heads are the inner loop. What is summed over tiles for each head
(share, gradient) lies in device memory, fp32, where only one program touches it: O(N), no atomics, always in the same order.

A student's probability is held times 2^SHIFT and counts as 2^-(126 + SHIFT) = e^-170 at least: the logarithm stays finite where
fp32 has no more numbers, and a row that the student gives no weight costs what it should.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .attention_scores import LIFT, block, save, scores, tokens_of

SHIFT = tl.constexpr(120.0)


@triton.jit
def student(left, right, scale, lse):
    """p_h · 2^SHIFT of a tile, with its floor; lse already in the tile's direction. SHIFT is added to the exponent only where
    it must be: there it costs digits. Above 0 are only columns that do not count, where it would run over."""
    log = tl.minimum(scores(left, right, scale) - lse, 0.0)
    low = log < -100.0
    return tl.exp2(tl.maximum(tl.where(low, log + SHIFT, log), -126.0)) * tl.where(low, 1.0, tl.exp2(SHIFT))


@triton.jit
def mean_rows_kernel(
    q_s, k_s, q_t, k_t, lengths, parts, lse_s, lse_t, mean, share, acc, near,
    qsb, qsh, qsn, ksb, ksh, ksn, qtb, qth, qtn, ktb, kth, ktn, HS, HT, N, scale_s, scale_t, weight, slope,
    DS: tl.constexpr, BDS: tl.constexpr, DT: tl.constexpr, BDT: tl.constexpr, LENGTHS: tl.constexpr,
    GRADIENT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program: BM rows of one image. parts `[programs]`: its rows' KL · weight / n. GRADIENT: share `[B, HS, N]` and
    near `[B, HS, N, DS]` = slope · N / n · (share · mean - acc), acc = sum_j a_h k_s; see `reference/attention_kl.py`."""
    blocks = tl.cdiv(N, BM)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    rows = tl.program_id(0) % blocks * BM + tl.arange(0, BM)
    n = tokens_of(lengths, image, N, LENGTHS)
    there = rows < n
    q_s += image * qsb
    k_s += image * ksb
    q_t += image * qtb
    k_t += image * ktb
    at = image * HS * N
    lse_s += at
    share += at
    lse_t += image * HT * N
    divergence = tl.zeros((BM,), tl.float32)
    for start in range(0, n, BN):
        columns = start + tl.arange(0, BN)
        p_t = tl.zeros((BM, BN), tl.float32)
        for h in range(HT):
            query = block(q_t + h * qth, rows, n, qtn, DT, BDT)
            key = block(k_t + h * kth, columns, n, ktn, DT, BDT)
            lse = tl.load(lse_t + h * N + rows, mask=there, other=0.0)
            p_t += tl.exp2(scores(query, key, scale_t) - lse[:, None])
        p_t = tl.where((columns < n)[None, :], p_t / HT, 0.0)
        p_s = tl.zeros((BM, BN), tl.float32)
        for h in range(HS):
            query = block(q_s + h * qsh, rows, n, qsn, DS, BDS)
            key = block(k_s + h * ksh, columns, n, ksn, DS, BDS)
            lse = tl.load(lse_s + h * N + rows, mask=there, other=0.0)
            p_s += student(query, key, scale_s, lse[:, None])
        small = p_s < 1.0  # below 2^-SHIFT: the logarithm is so long that its last digits do not matter
        log_s = tl.log2(tl.where(small, p_s, p_s * tl.exp2(-SHIFT))) - tl.where(small, SHIFT, 0.0)
        log_t = tl.log2(tl.maximum(p_t, 1e-37))
        divergence += tl.sum(p_t * (log_t - log_s + tl.log2(HS.to(tl.float32))), 1)
        if GRADIENT:
            ratio = p_t / p_s
            for h in tl.range(0, HS, num_stages=1):
                query = block(q_s + h * qsh, rows, n, qsn, DS, BDS)
                key = block(k_s + h * ksh, columns, n, ksn, DS, BDS)
                lse = tl.load(lse_s + h * N + rows, mask=there, other=0.0)
                a = student(query, key, scale_s, lse[:, None]) * ratio
                part = tl.sum(a, 1)
                own = acc + (at + h * N) * DS
                total = tl.zeros((BM, BDS), tl.float32)
                if start > 0:
                    part += tl.load(share + h * N + rows, mask=there, other=0.0)
                    total = block(own, rows, n, DS, DS, BDS)
                tl.store(share + h * N + rows, part, mask=there)
                save(own, tl.dot(a.to(key.dtype), key, total, input_precision="tf32x3"), rows, n, DS, BDS)
            tl.debug_barrier()
    count = tl.maximum(n, 1).to(tl.float32)
    tl.store(parts + tl.program_id(0), tl.sum(tl.where(there, divergence, 0.0), 0) * (weight / count))
    if GRADIENT:
        for h in tl.range(0, HS, num_stages=1):
            own = (at + h * N) * DS
            part = tl.load(share + h * N + rows, mask=there, other=0.0)
            gradient = part[:, None] * block(mean + own, rows, n, DS, DS, BDS) - block(acc + own, rows, n, DS, DS, BDS)
            save(near + own, gradient * (slope * N / count), rows, N, DS, BDS)
            tl.store(share + h * N + rows, part, mask=rows < N)


@triton.jit
def mean_columns_kernel(
    g, q_s, k_s, q_t, k_t, lengths, lse_s, lse_t, share, acc, near, dq, dk,
    qsb, qsh, qsn, ksb, ksh, ksn, qtb, qth, qtn, ktb, kth, ktn, HS, HT, N, scale_s, scale_t, weight, slope,
    DS: tl.constexpr, BDS: tl.constexpr, DT: tl.constexpr, BDT: tl.constexpr, LENGTHS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program: BN columns of one image; dk_h = g · weight / n · slope · sum_i (share p_h - a_h) q_s, summed in acc, and
    dq = g · weight / N · near for the rows of the same numbers. Tiles are transposed: `[BN, BM]`."""
    blocks = tl.cdiv(N, BN)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    columns = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    n = tokens_of(lengths, image, N, LENGTHS)
    q_s += image * qsb
    k_s += image * ksb
    q_t += image * qtb
    k_t += image * ktb
    at = image * HS * N
    lse_s += at
    share += at
    lse_t += image * HT * N
    for start in range(0, n, BM):
        rows = start + tl.arange(0, BM)  # beyond n q is 0, so that whatever finite stands there adds nothing
        inside = rows < n
        p_t = tl.zeros((BN, BM), tl.float32)
        for h in range(HT):
            key = block(k_t + h * kth, columns, n, ktn, DT, BDT)
            query = block(q_t + h * qth, rows, n, qtn, DT, BDT)
            lse = tl.load(lse_t + h * N + rows, mask=inside, other=0.0)
            p_t += tl.exp2(scores(key, query, scale_t) - lse[None, :])
        p_s = tl.zeros((BN, BM), tl.float32)
        for h in range(HS):
            key = block(k_s + h * ksh, columns, n, ksn, DS, BDS)
            query = block(q_s + h * qsh, rows, n, qsn, DS, BDS)
            lse = tl.load(lse_s + h * N + rows, mask=inside, other=0.0)
            p_s += student(key, query, scale_s, lse[None, :])
        ratio = p_t / HT / p_s
        for h in tl.range(0, HS, num_stages=1):
            key = block(k_s + h * ksh, columns, n, ksn, DS, BDS)
            query = block(q_s + h * qsh, rows, n, qsn, DS, BDS)
            lse = tl.load(lse_s + h * N + rows, mask=inside, other=0.0)
            part = tl.load(share + h * N + rows, mask=inside, other=0.0)
            p = student(key, query, scale_s, lse[None, :])
            d = p * tl.exp2(-SHIFT) * part[None, :] - p * ratio
            own = acc + (at + h * N) * DS
            total = tl.zeros((BN, BDS), tl.float32)
            if start > 0:
                total = block(own, columns, n, DS, DS, BDS)
            total = tl.dot((d * tl.exp2(LIFT)).to(query.dtype), query, total, input_precision="tf32x3")
            save(own, total, columns, n, DS, BDS)
        tl.debug_barrier()
    factor = tl.load(g).to(tl.float32) * weight
    lowered = factor * slope / tl.maximum(n, 1).to(tl.float32) * tl.exp2(-LIFT)
    for h in tl.range(0, HS, num_stages=1):
        own = (at + h * N) * DS
        save(dk + own, block(acc + own, columns, n, DS, DS, BDS) * lowered, columns, N, DS, BDS)
        save(dq + own, block(near + own, columns, N, DS, DS, BDS).to(tl.float32) * (factor / N), columns, N, DS, BDS)
