"""Attention in int8 with the whole map in memory, as the formulas in `ops/attention_int8.py` stand. Not for speed."""

from __future__ import annotations

import torch
from torch import Tensor


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float, out: Tensor, lse: Tensor, cls_row: Tensor) -> None:
    """Fill out `[B, H, N, D]`, lse and cls_row `[B, H, N]`, fp32."""
    mean = k.mean(-2, keepdim=True)
    q_codes, q_scale = _codes(q, -1)
    k_codes, k_scale = _codes(k - mean, -1)
    v_codes, v_scale = _codes(v, -2)
    scores = scale * q_scale * k_scale.mT * (q_codes @ k_codes.mT)  # sums of codes are exact in fp32
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    p = (255 * exponentials).round()
    out.copy_(((p.double() @ v_codes.double()).float() * v_scale) / p.sum(-1, keepdim=True))
    lse.copy_(scores.logsumexp(-1) + scale * (q @ mean.mT)[..., 0])
    cls_row.copy_(exponentials[:, :, 0] / exponentials[:, :, 0].sum(-1, keepdim=True))


def _codes(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127 and what one is worth, along `dim`."""
    most = x.abs().amax(dim, keepdim=True)
    scale = torch.where(most < 1e-30, 1, most / 127)
    return (x / scale).round(), scale
