"""LoRA on a frozen linear layer as one operator: `lora_linear`, for torch.compile and autograd.

Not its arithmetic (`reference/lora.py`, `triton/lora.py`), and no merging: the base weight stays what it is, also in 4 bits.

Kept for the backward: x, u = dropout(x) Aᵀ (M · num · r values), with an activation z. No mask: the backward makes it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ...errors import InputError
from ..select import implementation
from .autocast import cast
from .device import check_one_device
from .eager import eager, plain
from .frozen import Frozen, Layer

ACTIVATIONS = ("none", "gelu", "silu")


def lora_linear(
    x: Tensor,
    weight: Tensor | Frozen,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float = 1.0,
    dropout_p: float = 0.0,
    activation: str = "none",
    *,
    index: Tensor | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """act(x Wᵀ + bias + scale · (dropout(x) Aᵀ) Bᵀ), in x's dtype; gradients for x, a and b. Hu et al. 2021, section 4.

    Under autocast x is taken in autocast's dtype. a and b may stay in fp32: they are rounded to x's dtype for the
    products, and their gradients are summed in fp32.

    Args:
        x: fp32, fp16 or bf16 `[..., in]`. weight: `[out, in]`, or `Frozen` (int8, NF4). bias: float `[out]`, frozen, or None.
        a, b: float `[r, in]` and `[out, r]`; several adapters: `[num, r, in]` and `[num, out, r]`, with `index`.
        dropout_p: probability in [0, 1), taken to the nearest 1/65536. activation: none, gelu (with erf) or silu.
        index: int32 or int64, which adapter each row uses: one number per row of x, or one per `x[i]`. A number that is no
            adapter's (say -1): the base layer alone.
        seed: int64, one element on x's device: the mask is a pure function of it; None: drawn from torch's generator.

    Raises:
        InputError: shapes, types or devices that do not fit, dropout_p outside [0, 1), an unknown activation.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"lora_linear with activation {activation!r}", expected=", ".join(ACTIVATIONS))
    x = cast(x)
    rows, a, b, index = arranged(x, a, b, index, dropout_p)
    base, bias = checked(weight, bias, rows, a, b, index)
    seed, keep = drawn(seed, x, dropout_p), wants_gradient(x, a, b)
    y, *_ = (_eager if plain(x) else _linear)(
        rows, base.weight, list(base.state), base.block, base.nested_block, bias, a, b, index, seed, scale, dropout_p,
        activation, keep,
    )  # fmt: skip
    return y.view(*x.shape[:-1], b.shape[1])


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether anything must be kept for a backward."""
    return torch.is_grad_enabled() and any(each.requires_grad for each in tensors)


def arranged(x: Tensor, a: Tensor, b: Tensor, index: Tensor | None, p: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """x as `[M, in]`, a and b with their adapters' axis, the index per row.

    Raises:
        InputError: x without an axis or not of floating point, several adapters without an index, an index of another length or
            not of whole numbers, p outside [0, 1).
    """
    if not x.dim() or not x.is_floating_point():
        raise InputError(f"x {list(x.shape)} {x.dtype}", expected="[..., in] of a floating-point type")
    if not 0 <= p < 1:
        raise InputError(f"dropout_p = {p}", expected="0 <= dropout_p < 1")
    if a.dim() == 2:
        a, b = a[None], b[None]
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    if index is None:
        if len(a) > 1:
            raise InputError(f"{len(a)} adapters and no index", do="give index, one number per row or per image")
        return rows, a, b, None
    if index.dtype not in (torch.int32, torch.int64):
        raise InputError(f"an index of {index.dtype}", expected="int32 or int64")
    if index.numel() == x.shape[0] and index.numel() != len(rows):
        index = index.reshape(-1).repeat_interleave(len(rows) // x.shape[0], output_size=len(rows))
    if index.numel() != len(rows):
        raise InputError(f"an index of {index.numel()} numbers", expected=f"{len(rows)} rows or {x.shape[0]} images")
    return rows, a, b, index.reshape(-1).to(torch.int32).contiguous()


def checked(
    weight: Tensor | Frozen,
    bias: Tensor | None,
    x: Tensor,
    a: Tensor,
    b: Tensor,
    index: Tensor | None,
    inner: int | None = None,
) -> tuple[Frozen, Tensor | None]:
    """The weight as `Frozen` and the bias, both without gradients, for inputs of `inner` values, x's if None.

    Raises:
        InputError: the shapes of weight, bias, a and b do not fit together, or they do not lie where x `[M, ...]` does.
    """
    base = weight if isinstance(weight, Frozen) else Frozen(weight)
    out, inner = b.shape[1], x.shape[1] if inner is None else inner
    fits = base.weight.numel() * 2 == out * inner + out * inner % 2 if base.kind == "nf4" else base.weight.shape == (out, inner)
    if not fits or not a.shape[1] or a.shape[2] != inner or a.shape[:2] != (b.shape[0], b.shape[2]):
        raise InputError(
            f"a {base.kind} weight {list(base.weight.shape)}, a {list(a.shape)}, b {list(b.shape)} for inputs of {inner}",
            expected="[out, in], [num, r, in] and [num, out, r], r from 1 on",
        )
    if bias is not None and bias.shape != (out,):
        raise InputError(f"a bias {list(bias.shape)}", expected=f"[{out}]")
    check_one_device(x, base.weight, *base.state, bias, a, b, index)
    if base.weight.requires_grad:
        base = base._replace(weight=base.weight.detach())
    return base, bias.detach() if bias is not None and bias.requires_grad else bias


def drawn(seed: Tensor | None, x: Tensor, p: float) -> Tensor | None:
    """The seed, drawn if dropout needs one and none is given."""
    if not p:
        return None
    return torch.randint(2**62, (1,), device=x.device) if seed is None else seed


def _forward(
    x: Tensor,
    weight: Tensor,
    state: Sequence[Tensor],
    block: int,
    nested_block: int,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    index: Tensor | None,
    seed: Tensor | None,
    scale: float,
    p: float,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and z and u if they are kept for a backward (else empty), of the implementation that is chosen."""
    layer = Layer(Frozen(weight, tuple(state), block, nested_block), bias, a, b)
    module = implementation("lora", x.device, None if keep else (x, (layer,), index, p))
    y, z, u = module.linear(x, layer, index, seed, scale, p, activation)
    return (y, z, u) if keep else (y, x.new_empty(0), x.new_empty(0))


_linear = torch.library.custom_op("edgefm::lora_linear", _forward, mutates_args=())


@_linear.register_fake
def _(x, weight, state, block, nested_block, bias, a, b, index, seed, scale, p, activation, keep):
    y = x.new_empty(x.shape[0], b.shape[1])
    if not keep:
        return y, x.new_empty(0), x.new_empty(0)
    return y, x.new_empty(0) if activation == "none" else torch.empty_like(y), x.new_empty(x.shape[0], a.shape[0] * a.shape[1])


def _backward(
    g: Tensor,
    x: Tensor,
    z: Tensor,
    u: Tensor,
    weight: Tensor,
    state: Sequence[Tensor],
    block: int,
    nested_block: int,
    a: Tensor,
    b: Tensor,
    index: Tensor | None,
    seed: Tensor | None,
    scale: float,
    p: float,
    activation: str,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    layer = Layer(Frozen(weight, tuple(state), block, nested_block), None, a, b)
    g = g.contiguous()
    return implementation("lora", x.device).linear_backward(g, x, z, u, layer, index, seed, scale, p, activation, need_x)


_linear_backward = torch.library.custom_op("edgefm::lora_linear_backward", _backward, mutates_args=())


@_linear_backward.register_fake
def _(g, x, z, u, weight, state, block, nested_block, a, b, index, seed, scale, p, activation, need_x):
    dx = torch.empty_like(x) if need_x else x.new_empty(0)
    return dx, a.new_empty(a.shape), b.new_empty(b.shape)


def _keep(ctx, inputs, output):
    x, weight, state, ctx.block, ctx.nested_block, _, a, b, index, seed, ctx.scale, ctx.p, ctx.activation, _ = inputs
    _, z, u = output
    ctx.mark_non_differentiable(z, u)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, z, u, weight, a, b, index, seed, *state)


def _gradient(ctx, g, _z, _u, backward=_linear_backward):
    x, z, u, weight, a, b, index, seed, *state = ctx.saved_tensors
    none = [None] * len(state)
    if g is None:
        return (None, None, none, *[None] * 11)
    dx, da, db = backward(
        g, x, z, u, weight, state, ctx.block, ctx.nested_block, a, b, index, seed, ctx.scale, ctx.p, ctx.activation,
        ctx.needs_input_grad[0],
    )  # fmt: skip
    return (dx if ctx.needs_input_grad[0] else None, None, none, None, None, None, da, db, *[None] * 6)


_linear.register_autograd(_gradient, setup_context=_keep)
_eager = eager(_forward, _keep, partial(_gradient, backward=_backward))
