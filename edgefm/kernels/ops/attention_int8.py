"""Attention in int8 as the native engine computes it, for inference: no gradient. Not the arithmetic: see `select.py`.

With codes of 8 bits, a scale per row of Q and K and per column of V, and K without its mean over the tokens, which adds the
same to all scores of a row (smooth-K: Zhang et al., SageAttention, 2024):

    S = scale · Q (K − mean K)ᵀ,   P_ij = round(255 exp(S_ij − max_j S_ij)),   out = P V / Σ_j P_ij
    lse_i = log Σ_j exp S_ij + scale · q_i · mean K
    cls_row_j = exp(S_0j − max S_0j) / Σ_j exp(S_0j − max S_0j)

Above 8,192 tokens the engine takes tiles of keys, each with scales of its own, and weighs their answers by exp(lse).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ..select import implementation

WIDTHS = range(32, 129, 8)
MAX_TOKENS = 65536


class Attended(NamedTuple):
    """What `attention_int8` answers."""

    out: Tensor
    lse: Tensor
    cls_row: Tensor


def attention_int8(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Attended:
    """Attention of N tokens to one another in int8.

    Args:
        q, k, v: fp32 `[B, H, N, D]` on the CPU, N at most 65,536, D from 32 to 128 in steps of 8. Views of one projection
            `[B, N, 3, H, D]` are taken as they are.
        scale: of Q Kᵀ, above 0; D ** −0.5 if None.

    Returns:
        out: fp32 `[B, H, N, D]`, in memory `[B, N, H, D]`; lse, cls_row: fp32 `[B, H, N]`. NaN or infinity in a row of q
        make that row NaN, in k all rows of its head, in v its column.

    Raises:
        InputError: shapes, types or a scale that do not fit.
    """
    if q.dim() != 4 or k.shape != q.shape or v.shape != q.shape or {t.dtype for t in (q, k, v)} != {torch.float32}:
        shapes = ", ".join(f"{t.dtype} {list(t.shape)}" for t in (q, k, v))
        raise InputError(f"q, k, v of {shapes}", expected="three of torch.float32 and one shape [B, H, N, D]")
    tokens, width = q.shape[2:]
    if width not in WIDTHS or not 1 <= tokens <= MAX_TOKENS:
        raise InputError(f"{tokens} tokens, heads of {width} values", expected=f"1 to {MAX_TOKENS}; 32, 40, 48 … 128")
    scale = float(width**-0.5 if scale is None else scale)
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"a scale of {scale}", expected="a finite number above 0")
    return Attended(*_attention_int8(q, k, v, scale))


@torch.library.custom_op("edgefm::attention_int8", mutates_args=())
def _attention_int8(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    answers = _answers(q)
    if q.numel():
        implementation("attention_int8", q.device).forward(q, k, v, scale, *answers)
    return answers


@_attention_int8.register_fake
def _(q, k, v, scale):
    return _answers(q)


def _answers(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for out, lse, cls_row."""
    b, h, n, d = q.shape
    return q.new_empty((b, n, h, d)).transpose(1, 2), q.new_empty((b, h, n)), q.new_empty((b, h, n))
