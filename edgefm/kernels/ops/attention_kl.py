"""Distillation of attention: `attention_kl` between attention maps, `relation_kl` between the relations of values or queries.

Not the arithmetic (`reference/attention_kl.py`, `triton/attention_kl.py`), and no T²: the caller weighs the loss.

Sources: the last layer's maps and value relations, MiniLM (Wang et al. 2020, section 3); any relations, re-split into as many
relation heads on both sides, MiniLMv2 (Wang et al. 2021, section 3.1, equations 6 to 9). TinyBERT (Jiao et al. 2020, section
3, equation 7) matches attention head by head too, by the squared error of the scores; here it is always the divergence.

Kept for the backward: one or two numbers for each head and token, and a gradient of q_s's shape. No map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError
from ..select import implementation
from .device import check_one_device
from .eager import eager, plain

Heads = Literal["mean", "pairs"] | Sequence[int]


def attention_kl(
    q_s: Tensor,
    k_s: Tensor,
    q_t: Tensor,
    k_t: Tensor,
    temperature: float = 1.0,
    *,
    heads: Heads = "mean",
    lengths: Tensor | None = None,
    scale_s: float | None = None,
    scale_t: float | None = None,
) -> Tensor:
    """KL(teacher || student) of attention maps, a scalar of at least fp32; gradients for q_s and k_s, none for the teacher.

    With P_x[b, h] = softmax over j of (q_x[b, h, i] · k_x[b, h, j]) scale_x / temperature, x the teacher t or the student s:

        pairs:  mean over b, h, i of  sum_j P_t[b, m(h), i, j] log(P_t[b, m(h), i, j] / P_s[b, h, i, j])
        mean:   mean over b, i    of  sum_j P_t[b, i, j] log(P_t[b, i, j] / P_s[b, i, j]),  P_x[b] the mean of P_x[b, h] over h

    The mean over i is that of each image over its own valid tokens; an image without any counts as 0.

    Args:
        q_s, k_s: student, fp32, fp16 or bf16 (fp64: through the reference) `[B, H_s, N, d_s]`, any strides.
        q_t, k_t: teacher, the same `[B, H_t, N, d_t]`; H_t, d_t and the dtype may differ from the student's.
        temperature: T above 0, for both.
        heads: "mean"; "pairs", student head h with teacher head h; or for each student head its teacher head m(h).
        lengths: int32 or int64 `[B]`, how many tokens from the first on are valid, taken into 0 to N; None: all.
        scale_s, scale_t: factors of the scores; None: 1 / sqrt(d).

    Raises:
        InputError: shapes, types or devices that do not fit, head numbers that there are not, a temperature not above 0.
    """
    _check(q_s, k_s, q_t, k_t, temperature, lengths)
    pairs = _pairs(heads, q_s.shape[1], q_t.shape[1])
    scales = [
        (1 / math.sqrt(q.shape[3]) if scale is None else scale) / temperature for q, scale in ((q_s, scale_s), (q_t, scale_t))
    ]
    if lengths is not None:
        lengths = lengths.to(device=q_s.device, dtype=torch.int32).clamp(0, q_s.shape[2]).contiguous()
    need = torch.is_grad_enabled() and (q_s.requires_grad or k_s.requires_grad)
    run = _eager if plain(q_s, k_s, q_t, k_t) else _attention_kl
    return run(q_s, k_s, q_t.detach(), k_t.detach(), lengths, pairs, *scales, need)[0]


def relation_kl(
    x_s: Tensor, x_t: Tensor, relation_heads: int, temperature: float = 1.0, *, lengths: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the relations softmax(x xᵀ / sqrt(d_r) / temperature), a scalar; a gradient for x_s.

    MiniLMv2: x is all queries, all keys or all values of a layer. The heads are laid side by side and cut again into
    `relation_heads` of d_r = H d / relation_heads each, student and teacher alike; then `attention_kl` in pairs.

    Args:
        x_s, x_t: `[B, H_s, N, d_s]` and `[B, H_t, N, d_t]`, dtypes as in `attention_kl`.
        relation_heads: a divisor of H_s d_s and of H_t d_t.

    Raises:
        InputError: as `attention_kl`, and a width that relation_heads does not divide.
    """
    s, t = _relation(x_s, relation_heads), _relation(x_t, relation_heads)
    return attention_kl(s, s, t, t, temperature, heads="pairs", lengths=lengths)


def _relation(x: Tensor, heads: int) -> Tensor:
    """`[B, H, N, d]` re-split into `[B, heads, N, H d / heads]`; a view where x is one of the usual slices of qkv."""
    if x.dim() != 4:
        raise InputError(f"relation_kl of {list(x.shape)}", expected="[B, H, N, d]")
    batch, own, tokens, inner = x.shape
    if heads < 1 or own * inner % heads:
        raise InputError(f"{heads} relation heads for a width of {own * inner}", expected="a divisor of both widths")
    return x.transpose(1, 2).reshape(batch, tokens, heads, own * inner // heads).transpose(1, 2)


def _check(q_s: Tensor, k_s: Tensor, q_t: Tensor, k_t: Tensor, temperature: float, lengths: Tensor | None) -> None:
    if not temperature > 0:
        raise InputError(f"temperature = {temperature}", expected="a number above 0")
    for name, q, k in (("student", q_s, k_s), ("teacher", q_t, k_t)):
        if q.dim() != 4 or q.shape != k.shape or q.dtype != k.dtype or not q.is_floating_point() or not q.numel():
            found = f"the {name}'s q {list(q.shape)} {q.dtype} and k {list(k.shape)} {k.dtype}"
            raise InputError(found, expected="[B, H, N, d] each, of one floating-point dtype, none of them empty")
    if q_s.shape[::2] != q_t.shape[::2]:
        found = f"student [B, N] {list(q_s.shape[::2])}, teacher {list(q_t.shape[::2])}"
        raise InputError(found, expected="as many images and tokens", do="give both the same patch grid and prefix tokens")
    check_one_device(q_s, k_s, q_t, k_t)
    if lengths is not None and (lengths.shape != q_s.shape[:1] or lengths.dtype not in (torch.int32, torch.int64)):
        found = f"lengths {list(lengths.shape)} {lengths.dtype}"
        raise InputError(found, expected=f"[{q_s.shape[0]}], int32 or int64")


def _pairs(heads: Heads, student: int, teacher: int) -> list[int]:
    """The teacher's head of each student's head; none of them for the mean."""
    if heads == "mean":
        return []
    pairs = list(range(student)) if heads == "pairs" else list(heads)
    if len(pairs) != student or (heads == "pairs" and student != teacher):
        found = f"{student} heads of the student, {teacher} of the teacher, heads={heads!r}"
        raise InputError(found, do='give one teacher head for each student head, or heads="mean"')
    if any(isinstance(head, str) or not 0 <= head < teacher for head in pairs):
        raise InputError(f"heads={heads!r}", expected=f"teacher heads 0 to {teacher - 1}")
    return pairs


def _forward(
    q_s: Tensor,
    k_s: Tensor,
    q_t: Tensor,
    k_t: Tensor,
    lengths: Tensor | None,
    pairs: Sequence[int],
    scale_s: float,
    scale_t: float,
    need: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """value []; and, if `need`: lse_s `[B, H_s, N]`, lse_t `[B, H_t or pairs, N]`, share `[B, H_s, N]` (mean only), near, q_s's
    shape: the gradient of q_s for a gradient of B · pairs · N."""
    module = implementation("attention_kl", q_s.device)
    return module.attention_kl(q_s, k_s, q_t, k_t, lengths, list(pairs), scale_s, scale_t, need)


_attention_kl = torch.library.custom_op("edgefm::attention_kl", _forward, mutates_args=())


@_attention_kl.register_fake
def _(q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t, need):
    kind = torch.promote_types(q_s.dtype, torch.float32)
    if not need:
        nothing = [q_s.new_empty(0, dtype=kind) for _ in range(3)]
        return q_s.new_empty((), dtype=kind), *nothing, q_s.new_empty(0)
    batch, heads, tokens, _ = q_s.shape
    others = heads if pairs else q_t.shape[1]
    return (
        q_s.new_empty((), dtype=kind),
        q_s.new_empty(batch, heads, tokens, dtype=kind),
        q_s.new_empty(batch, others, tokens, dtype=kind),
        q_s.new_empty((0,) if pairs else (batch, heads, tokens), dtype=kind),
        q_s.new_empty(q_s.shape),
    )


def _backward(
    g: Tensor,
    q_s: Tensor,
    k_s: Tensor,
    q_t: Tensor,
    k_t: Tensor,
    lengths: Tensor | None,
    lse_s: Tensor,
    lse_t: Tensor,
    share: Tensor,
    near: Tensor,
    pairs: Sequence[int],
    scale_s: float,
    scale_t: float,
) -> tuple[Tensor, Tensor]:
    kept = (lse_s, lse_t, share, near)
    module = implementation("attention_kl", q_s.device)
    return module.attention_kl_backward(g, q_s, k_s, q_t, k_t, lengths, kept, list(pairs), scale_s, scale_t)


_attention_kl_backward = torch.library.custom_op("edgefm::attention_kl_backward", _backward, mutates_args=())


@_attention_kl_backward.register_fake
def _(g, q_s, k_s, q_t, k_t, lengths, lse_s, lse_t, share, near, pairs, scale_s, scale_t):
    return q_s.new_empty(q_s.shape), k_s.new_empty(k_s.shape)


def _keep(ctx, inputs, output):
    q_s, k_s, q_t, k_t, lengths, ctx.pairs, ctx.scale_s, ctx.scale_t, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q_s, k_s, q_t, k_t, lengths, *output[1:])


def _gradient(ctx, g, *_, backward=_attention_kl_backward):
    if g is None:
        return (None,) * 9
    dq, dk = backward(g, *ctx.saved_tensors, ctx.pairs, ctx.scale_s, ctx.scale_t)
    return dq, dk, *(None,) * 7


_attention_kl.register_autograd(_gradient, setup_context=_keep)
_eager = eager(_forward, _keep, partial(_gradient, backward=_backward))
