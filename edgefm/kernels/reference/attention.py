"""Attention with the whole map in memory, as the formulas in `ops/attention.py` stand.

Not for speed: each map is [B, H, N, N], in fp32 for the half types.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.autocast import without_autocast


@without_autocast
def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    cls_row: Tensor,
    importance: Tensor,
) -> None:
    """Fill out `[B, H, N, D]`; lse, cls_row and importance `[B, H, N]` unless they are empty."""
    scores = _scores(q, k, bias, scale, lse.dtype)
    found = scores.logsumexp(-1)
    p = _map(scores, found)
    if lse.numel():
        lse.copy_(found)
    out.copy_(p @ v.to(p.dtype))
    if cls_row.numel():
        cls_row.copy_(p[:, :, 0])
    if importance.numel():
        importance.copy_(p.mean(-2))


@without_autocast
def backward(
    d_out: Tensor,
    d_lse: Tensor,
    d_cls_row: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    cls_row: Tensor,
    scale: float,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    d_bias: Tensor,
) -> None:
    """Fill dq, dk, dv `[B, H, N, D]`, and d_bias, of the bias's shape, unless it is empty."""
    wide = lse.dtype
    p = _map(_scores(q, k, bias, scale, wide), lse)
    d_out = d_out.to(wide)
    dp = d_out @ v.to(wide).mT
    if d_cls_row.numel():
        dp[:, :, 0] += d_cls_row
    delta = (p * dp).sum(-1) - d_lse
    ds = p * (dp - delta[..., None])
    dq.copy_(scale * (ds @ k.to(wide)))
    dk.copy_(scale * (ds.mT @ q.to(wide)))
    dv.copy_(p.mT @ d_out)
    if d_bias.numel():
        d_bias.copy_(ds.sum_to_size(d_bias.shape))


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, scale: float, wide: torch.dtype) -> Tensor:
    """S `[B, H, N, N]`."""
    scores = scale * (q.to(wide) @ k.to(wide).mT)
    return scores if bias is None else scores + bias.to(wide)


def _map(scores: Tensor, lse: Tensor) -> Tensor:
    """P `[B, H, N, N]`; zeros in a row that attends to nothing, where lse is −inf."""
    return (scores - lse.masked_fill(lse == -torch.inf, torch.inf)[..., None]).exp()
