"""An operator's own functions as plain eager tensors call them, without torch.library's dispatch: that takes 0.1 to 0.2 ms of
Python a call, both ways, which on a fast card is as long as the kernels.

Not a second definition: `torch.compile`, `torch.export`, tracing, modes that watch operators (make_fx, FlopCounterMode) and
tensors of other types go through the library as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


def plain(*tensors: Tensor) -> bool:
    """Whether nothing but autograd has to see a call with these tensors."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing():
        return False  # what a kernel of Triton's writes would be missing from the trace
    if torch._C._are_functorch_transforms_active():
        return False  # what vmap hands on has no memory of its own
    return all(type(each) in (Tensor, Parameter) for each in tensors)


def eager(
    forward: Callable[..., tuple[Tensor, ...]],
    remember: Callable[[Any, tuple[Any, ...], tuple[Tensor, ...]], None],
    gradient: Callable[..., tuple[Any, ...]],
) -> Callable[..., tuple[Tensor, ...]]:
    """A function of forward's arguments, with gradients of the first order; a second derivative raises RuntimeError.

    Args:
        forward: what the operator runs. remember, gradient: what `register_autograd` takes as setup_context and backward;
            gradient itself calls no operator.
    """

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            output = forward(*inputs)
            remember(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
            with torch.no_grad():
                found = tuple(None if isinstance(each, list) else each for each in gradient(ctx, *gradients))
            return tuple(map(_once, found)) if torch.is_grad_enabled() else found

    def call(*inputs: Any) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled() and any(isinstance(each, Tensor) and each.requires_grad for each in inputs):
            return Eager.apply(*inputs)  # type: ignore[no-any-return, no-untyped-call]
        return forward(*inputs)

    return call


class _Once(torch.autograd.Function):
    """A gradient as it is. torch's `once_differentiable` would let a second derivative through as zero."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError("EdgeFM's operators have first derivatives only: this asks for a second one")


def _once(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else _Once.apply(gradient, torch.empty(0, requires_grad=True))  # type: ignore[no-untyped-call]
