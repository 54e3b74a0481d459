"""A transformer's MLP with LoRA on both layers as one operator: `lora_mlp`. Not its arithmetic: see `lora.py`.

Kept for the backward: x, z (before the activation, M · hidden) and both u (M · num · r). Not the activated hidden values:
the backward computes them again from z, so the memory is half of what two linear layers and an activation keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ...errors import InputError
from ..select import implementation
from .autocast import cast
from .eager import eager, plain
from .frozen import Frozen, Layer
from .lora import arranged, checked, drawn, wants_gradient

ACTIVATIONS = ("gelu", "silu", "swiglu", "glu")


def lora_mlp(
    x: Tensor,
    weight1: Tensor | Frozen,
    bias1: Tensor | None,
    a1: Tensor,
    b1: Tensor,
    weight2: Tensor | Frozen,
    bias2: Tensor | None,
    a2: Tensor,
    b2: Tensor,
    scale: float = 1.0,
    dropout_p: float = 0.0,
    activation: str = "gelu",
    *,
    index: Tensor | None = None,
    seed: Tensor | None = None,
) -> Tensor:
    """fc2(act(fc1(x))), each layer fc(x) = x Wᵀ + bias + scale · (dropout(x) Aᵀ) Bᵀ; gradients for x and the four factors.

    Args:
        x: fp32, fp16 or bf16 `[..., in]`. weight1: `[hidden, in]`, weight2: `[out, hidden]`, gated `[out, hidden / 2]`;
            tensors or `Frozen`. bias1, bias2: float, frozen, or None. a1, b1, a2, b2, index, seed: as in `lora_linear`, the
            index for both layers.
        activation: gelu (with erf), silu; gated: swiglu = silu(first half) · second half (timm's SwiGLUPacked), glu =
            first half · silu(second half) (timm's GluMlp with gate_last).

    Raises:
        InputError: shapes, types or devices that do not fit, dropout_p outside [0, 1), an unknown activation.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"lora_mlp with activation {activation!r}", expected=", ".join(ACTIVATIONS))
    x = cast(x)
    rows, a1, b1, index = arranged(x, a1, b1, index, dropout_p)
    a2, b2 = (a2[None], b2[None]) if a2.dim() == 2 else (a2, b2)
    if len(a1) != len(a2):
        raise InputError(f"{len(a1)} adapters on fc1 and {len(a2)} on fc2", expected="the same number")
    hidden = b1.shape[1] // 2 if activation in ("swiglu", "glu") else b1.shape[1]
    base1, bias1 = checked(weight1, bias1, rows, a1, b1, index)
    base2, bias2 = checked(weight2, bias2, rows, a2, b2, index, hidden)
    first = (base1.weight, list(base1.state), base1.block, base1.nested_block, bias1, a1, b1)
    second = (base2.weight, list(base2.state), base2.block, base2.nested_block, bias2, a2, b2)
    keep = wants_gradient(x, a1, b1, a2, b2)
    run = _eager if plain(x) else _mlp
    y, *_ = run(rows, *first, *second, index, drawn(seed, x, dropout_p), scale, dropout_p, activation, keep)
    return y.view(*x.shape[:-1], b2.shape[1])


def _forward(
    x: Tensor,
    weight1: Tensor,
    state1: Sequence[Tensor],
    block1: int,
    nested_block1: int,
    bias1: Tensor | None,
    a1: Tensor,
    b1: Tensor,
    weight2: Tensor,
    state2: Sequence[Tensor],
    block2: int,
    nested_block2: int,
    bias2: Tensor | None,
    a2: Tensor,
    b2: Tensor,
    index: Tensor | None,
    seed: Tensor | None,
    scale: float,
    p: float,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    fc1 = Layer(Frozen(weight1, tuple(state1), block1, nested_block1), bias1, a1, b1)
    fc2 = Layer(Frozen(weight2, tuple(state2), block2, nested_block2), bias2, a2, b2)
    module = implementation("lora", x.device, None if keep else (x, (fc1, fc2), index, p))
    y, z, u1, u2 = module.mlp(x, fc1, fc2, index, seed, scale, p, activation)
    return (y, z, u1, u2) if keep else (y, x.new_empty(0), x.new_empty(0), x.new_empty(0))


_mlp = torch.library.custom_op("edgefm::lora_mlp", _forward, mutates_args=())


@_mlp.register_fake
def _(x, weight1, state1, block1, nested_block1, bias1, a1, b1, weight2, state2, block2, nested_block2, bias2, a2, b2, index,
      seed, scale, p, activation, keep):  # fmt: skip
    rows = x.shape[0]
    if not keep:
        return x.new_empty(rows, b2.shape[1]), x.new_empty(0), x.new_empty(0), x.new_empty(0)
    z, u1 = x.new_empty(rows, b1.shape[1]), x.new_empty(rows, a1.shape[0] * a1.shape[1])
    return x.new_empty(rows, b2.shape[1]), z, u1, x.new_empty(rows, a2.shape[0] * a2.shape[1])


def _backward(
    g: Tensor,
    x: Tensor,
    z: Tensor,
    u1: Tensor,
    u2: Tensor,
    weight1: Tensor,
    state1: Sequence[Tensor],
    block1: int,
    nested_block1: int,
    a1: Tensor,
    b1: Tensor,
    weight2: Tensor,
    state2: Sequence[Tensor],
    block2: int,
    nested_block2: int,
    a2: Tensor,
    b2: Tensor,
    index: Tensor | None,
    seed: Tensor | None,
    scale: float,
    p: float,
    activation: str,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    fc1 = Layer(Frozen(weight1, tuple(state1), block1, nested_block1), None, a1, b1)
    fc2 = Layer(Frozen(weight2, tuple(state2), block2, nested_block2), None, a2, b2)
    backend = implementation("lora", x.device)
    return backend.mlp_backward(g.contiguous(), x, z, u1, u2, fc1, fc2, index, seed, scale, p, activation, need_x)


_mlp_backward = torch.library.custom_op("edgefm::lora_mlp_backward", _backward, mutates_args=())


@_mlp_backward.register_fake
def _(g, x, z, u1, u2, weight1, state1, block1, nested_block1, a1, b1, weight2, state2, block2, nested_block2, a2, b2, index,
      seed, scale, p, activation, need_x):  # fmt: skip
    dx = torch.empty_like(x) if need_x else x.new_empty(0)
    return dx, a1.new_empty(a1.shape), b1.new_empty(b1.shape), a2.new_empty(a2.shape), b2.new_empty(b2.shape)


def _keep(ctx, inputs, output):
    x, weight1, state1, ctx.block1, ctx.nested1, _, a1, b1, weight2, state2, ctx.block2, ctx.nested2, _, a2, b2, *rest = inputs
    index, seed, ctx.scale, ctx.p, ctx.activation, _ = rest
    _, *saved = output
    ctx.mark_non_differentiable(*saved)
    ctx.set_materialize_grads(False)
    ctx.states = len(state1)
    ctx.save_for_backward(x, *saved, weight1, a1, b1, weight2, a2, b2, index, seed, *state1, *state2)


def _gradient(ctx, g, *_, backward=_mlp_backward):
    x, z, u1, u2, weight1, a1, b1, weight2, a2, b2, index, seed, *states = ctx.saved_tensors
    state1, state2 = states[: ctx.states], states[ctx.states :]
    need_x = ctx.needs_input_grad[0]
    none1, none2 = [None] * len(state1), [None] * len(state2)
    if g is None:
        return (None, None, none1, *[None] * 6, none2, *[None] * 11)
    dx, da1, db1, da2, db2 = backward(
        g, x, z, u1, u2, weight1, state1, ctx.block1, ctx.nested1, a1, b1, weight2, state2, ctx.block2, ctx.nested2, a2, b2,
        index, seed, ctx.scale, ctx.p, ctx.activation, need_x,
    )  # fmt: skip
    first = (dx if need_x else None, None, none1, None, None, None, da1, db1)
    return (*first, None, none2, None, None, None, da2, db2, *[None] * 6)


_mlp.register_autograd(_gradient, setup_context=_keep)
_eager = eager(_forward, _keep, partial(_gradient, backward=_backward))
