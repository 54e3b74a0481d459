"""KL divergence between a teacher's and a student's attention maps in plain torch, with the maps in memory.

Not fast and not small: it holds every map at once. Formula and sources: `ops/attention_kl.py`.

With p_h the student's maps, P_s = mean_h p_h, P_t the teacher's (mean), c = scale_s, w the weight of a row:
    d KL / d score_h = share_h p_h - a_h,   a_h = P_t p_h / sum_h' p_h',   share_h = sum_j a_h   (sum_h share_h = 1)
    in pairs: p_h - P_t
    dq = w c (d KL / d score) k,   dk = w c (d KL / d score)ᵀ q
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.autocast import without_autocast


@without_autocast
def attention_kl(q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t, need):
    """See `ops.attention_kl._attention_kl`."""
    s, t = log_maps(q_s, k_s, lengths, scale_s), log_maps(q_t, k_t, lengths, scale_t)
    rows = divergence(*(each.log for each in joined(s, t, pairs)))
    batch, heads, tokens = rows.shape
    value = (rows * weights(lengths, batch, heads, tokens, rows)).sum().to(s.log.dtype)
    if not need:
        return value, *(value.new_empty(0) for _ in range(3)), q_s.new_empty(0)
    slope, share = slopes(s, t, pairs)
    scaled = slope * weights(lengths, batch, heads, tokens, slope) * (batch * heads * tokens * scale_s)
    lse_t = t.lse[:, pairs] if pairs else t.lse
    near = (scaled.to(q_s.dtype) @ k_s).contiguous()
    return value, s.lse.contiguous(), lse_t.to(value.dtype).contiguous(), share.contiguous(), near


@without_autocast
def attention_kl_backward(g, q_s, k_s, q_t, k_t, lengths, kept, pairs, scale_s, scale_t):
    """See `ops.attention_kl._attention_kl_backward`; makes the maps again."""
    s, t = log_maps(q_s, k_s, lengths, scale_s), log_maps(q_t, k_t, lengths, scale_t)
    slope, _ = slopes(s, t, pairs)
    batch, heads, tokens = q_s.shape[0], len(pairs) or 1, q_s.shape[2]
    slope = slope * weights(lengths, batch, heads, tokens, slope) * (batch * heads * tokens * scale_s)
    factor = g / (batch * heads * tokens)
    dk = (slope.to(q_s.dtype).mT @ q_s) * factor
    return (kept[3] * factor).to(q_s.dtype).contiguous(), dk.to(k_s.dtype).contiguous()


class Maps(NamedTuple):
    """log p `[B, H, N, N]` (-inf where row or column is not valid), its log-sum-exp `[B, H, N]`, valid `[B or 1, 1, N, N]`."""

    log: Tensor
    lse: Tensor
    valid: Tensor


def log_maps(q: Tensor, k: Tensor, lengths: Tensor | None, scale: float) -> Maps:
    """The product in q's dtype, the rest in at least fp32."""
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scale
    tokens = torch.arange(q.shape[2], device=q.device)
    inside = tokens[None] < (len(tokens) if lengths is None else lengths[:, None])
    valid = (inside[:, :, None] & inside[:, None, :])[:, None]
    scores = scores.masked_fill(~valid, -math.inf)
    lse = scores.logsumexp(-1)
    return Maps(scores - lse.nan_to_num(neginf=0)[..., None], lse, valid)


def joined(s: Maps, t: Maps, pairs: list[int]) -> tuple[Maps, Maps]:
    """The student's and the teacher's maps that are compared."""
    if pairs:
        return s, Maps(t.log[:, pairs], t.lse, t.valid)
    return tuple(Maps(x.log.logsumexp(1, keepdim=True) - math.log(x.log.shape[1]), x.lse, x.valid) for x in (s, t))


def divergence(s: Tensor, t: Tensor) -> Tensor:
    """KL of each row, from log P_s and log P_t `[B, h, N, N]`; columns that are not valid are -inf in both."""
    return torch.where(t.isneginf(), 0, t.exp() * (t - s)).sum(-1)


def slopes(s: Maps, t: Maps, pairs: list[int]) -> tuple[Tensor, Tensor]:
    """d KL / d score `[B, H_s, N, N]` and share `[B, H_s, N]` (empty in pairs)."""
    if pairs:
        return s.log.exp() - t.log[:, pairs].exp(), s.log.new_empty(0)
    both, other = joined(s, t, pairs)
    part = torch.where(s.valid, s.log - both.log, -math.inf) - math.log(s.log.shape[1])
    a = (other.log + part).exp()
    share = a.sum(-1)
    return share[..., None] * s.log.exp() - a, share


def weights(lengths: Tensor | None, batch: int, heads: int, tokens: int, like: Tensor) -> Tensor:
    """1 / (B · pairs · valid tokens) of each image, for `[B, ...]` of like's rank; 0 for an image without any."""
    if lengths is None:
        return like.new_full((1,) * like.dim(), 1 / (batch * heads * tokens))
    count = lengths.to(like.dtype)
    return torch.where(count > 0, 1 / (batch * heads * count.clamp(min=1)), 0).view(-1, *(1,) * (like.dim() - 1))
