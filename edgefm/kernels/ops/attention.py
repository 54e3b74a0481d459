"""Attention that also answers with what a map is asked for: log-sum-exp, the class token's row, each token's importance.

Not for plain attention, which goes to PyTorch's own; not its arithmetic either: see `select.py`.

With S = scale · Q Kᵀ + bias and P = softmax(S) by rows, never held in memory as a whole:

    out = P V                       [B, H, N, D]
    lse_i = log Σ_j exp S_ij        [B, H, N]
    cls_row_j = P_0j                [B, H, N]   the row of query 0
    importance_j = Σ_i P_ij / N     [B, H, N]   the mean over queries; it sums to one over the tokens

Dao, FlashAttention-2 (2023), for the passes over blocks of keys. Importance takes a second pass over Q and K, with lse known.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from .. import select
from .autocast import cast
from .device import check_one_device
from .eager import eager, plain

MAX_HEAD = 128
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Attended(NamedTuple):
    """What `attention` answers; None for what was not asked for."""

    out: Tensor
    lse: Tensor | None
    cls_row: Tensor | None
    importance: Tensor | None


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    scale: float | None = None,
    want_lse: bool = False,
    want_cls_row: bool = False,
    want_importance: bool = False,
) -> Attended:
    """Attention of N tokens to one another, and what of its map is wanted, without the map in memory.

    Args:
        q, k, v: `[B, H, N, D]`, D from 1 to 128, of one floating-point type (fp16, bf16, fp32, fp64); any strides. Under
            autocast they are taken in autocast's.
        bias: added to the scores, `[B or 1, H or 1, N, N]`, any floating-point type; −inf masks. A mask of keys
            `[B, 1, 1, N]` is given as `mask.expand(-1, -1, N, -1)`, which takes no memory here either.
        scale: of Q Kᵀ; D ** −0.5 if None.

    Returns:
        out: `[B, H, N, D]`, q's type; in memory `[B, N, H, D]`, so that joining the heads copies nothing. A view: torch lets
            nobody change it in place where a gradient flows.
        lse, cls_row, importance: `[B, H, N]`, fp32 (fp64 for fp64); None if not wanted.

        Gradients flow from out, lse and cls_row to q, k, v and bias, once (no second derivative). importance has none:
        it is for ranking tokens. A row whose scores are all −inf attends to nothing: out, cls_row and its share of the
        importance are zero, lse is −inf, and its gradients are zero.

    Raises:
        InputError: shapes, types or devices that do not fit.
    """
    q, k, v = cast(q), cast(k), cast(v)
    _check(q, k, v, bias)
    scale = float(q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is None and not (want_lse or want_cls_row or want_importance):
        return Attended(F.scaled_dot_product_attention(q, k, v, scale=scale), None, None, None)
    kept = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, bias) if t is not None)
    run = _eager if plain(q, k, v) else attend
    out, lse, cls_row, importance = run(q, k, v, bias, scale, want_lse or kept, want_cls_row, want_importance)
    return Attended(out, lse if want_lse else None, cls_row if want_cls_row else None, importance if want_importance else None)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, lse: bool, cls_row: bool, importance: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`attention` as torch sees it: out, lse, cls_row and importance, `[0]` where not wanted. A gradient needs lse."""
    answers = _answers(q, lse, cls_row, importance)
    if q.numel():
        call = None if lse or cls_row or importance else (q, bias)
        _implementation(q, call).forward(q, k, v, bias, scale, *answers)
    return answers


attend = torch.library.custom_op("edgefm::attention", _forward, mutates_args=())


@attend.register_fake
def _(q, k, v, bias, scale, lse, cls_row, importance):
    return _answers(q, lse, cls_row, importance)


def _backward(
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
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v and bias (`[0]` if not wanted).

    With D = dOut Vᵀ, and d_cls_row added to its row 0:

        dS_ij = P_ij (D_ij − Δ_i),   Δ_i = Σ_j P_ij D_ij − d_lse_i
        dQ = scale · dS K,   dK = scale · dSᵀ Q,   dV = Pᵀ dOut,   dBias = dS, summed over what the bias was repeated for
    """
    gradients = _gradients(q, bias, want_bias)
    if q.numel():
        implementation = _implementation(q)
        implementation.backward(d_out, d_lse, d_cls_row, q, k, v, bias, out, lse, cls_row, scale, *gradients)
    else:
        gradients[3].zero_()  # a bias for all images is there without an image, too
    return gradients


attend_backward = torch.library.custom_op("edgefm::attention_backward", _backward, mutates_args=())


@attend_backward.register_fake
def _(d_out, d_lse, d_cls_row, q, k, v, bias, out, lse, cls_row, scale, want_bias):
    return _gradients(q, bias, want_bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, bias, ctx.scale, *_ = inputs
    out, lse, cls_row, importance = output
    ctx.save_for_backward(q, k, v, bias, out, lse, cls_row)
    ctx.mark_non_differentiable(importance)


def _gradient(
    ctx: Any, d_out: Tensor, d_lse: Tensor, d_cls_row: Tensor, _: Tensor, backward: Any = attend_backward
) -> tuple[Tensor | None, ...]:
    q, k, v, bias, out, lse, cls_row = ctx.saved_tensors
    want_bias = bias is not None and ctx.needs_input_grad[3]
    dq, dk, dv, d_bias = backward(d_out, d_lse, d_cls_row, q, k, v, bias, out, lse, cls_row, ctx.scale, want_bias)
    return dq, dk, dv, d_bias if want_bias else None, *[None] * 4


attend.register_autograd(_gradient, setup_context=_remember)
_eager = eager(_forward, _remember, partial(_gradient, backward=_backward))


def _answers(q: Tensor, lse: bool, cls_row: bool, importance: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory for out, lse, cls_row, importance."""
    wide = torch.promote_types(q.dtype, torch.float32)
    rows = [q.new_empty(q.shape[:3] if wanted else (0,), dtype=wide) for wanted in (lse, cls_row, importance)]
    return _heads_inside(q), rows[0], rows[1], rows[2]


def _gradients(q: Tensor, bias: Tensor | None, want_bias: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory for the gradients of q, k, v, bias."""
    d_bias = q.new_empty((0,)) if bias is None or not want_bias else bias.new_empty(bias.shape)
    return _heads_inside(q), _heads_inside(q), _heads_inside(q), d_bias


def _heads_inside(q: Tensor) -> Tensor:
    """Empty, of q's shape `[B, H, N, D]`, in memory `[B, N, H, D]`."""
    b, h, n, d = q.shape
    return q.new_empty((b, n, h, d)).transpose(1, 2)


def _implementation(q: Tensor, call: tuple[Any, ...] | None = None) -> ModuleType:
    """The chosen backend; the reference for fp64, which is there for checking only."""
    if q.dtype == torch.float64:
        from ..reference import attention as reference

        return reference
    return select.implementation("attention", q.device, call)


def _check(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> None:
    if q.dim() != 4 or k.shape != q.shape or v.shape != q.shape:
        raise InputError(
            f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}", expected="three tensors of one shape [B, H, N, D]"
        )
    b, h, n, d = q.shape
    if not 1 <= d <= MAX_HEAD:
        raise InputError(f"heads of {d} values", expected=f"1 to {MAX_HEAD}", do="split the heads")
    if q.dtype not in FLOATS or k.dtype != q.dtype or v.dtype != q.dtype:
        raise InputError(f"q {q.dtype}, k {k.dtype}, v {v.dtype}", expected="one floating-point type", do="cast them")
    check_one_device(q, k, v, bias)
    if bias is None:
        return
    if bias.dim() != 4 or bias.shape[0] not in (1, b) or bias.shape[1] not in (1, h) or bias.shape[2:] != (n, n):
        raise InputError(
            f"a bias {list(bias.shape)} for q {list(q.shape)}",
            expected=f"[{b} or 1, {h} or 1, {n}, {n}]",
            do="expand the bias to that shape",
        )
    if not bias.is_floating_point():
        raise InputError(f"a bias of {bias.dtype}", expected="a floating-point type", do="turn a mask into 0 and -inf")
