"""An operator's own functions as plain eager tensors call them, without torch.library's dispatch: that takes 0.1 to 0.2 ms of
Python a call, both ways, which on a fast card is as long as the kernels.

Not a second definition: `torch.compile`, `torch.export` and tensors of other types go through the library as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter


def plain(*tensors: Tensor) -> bool:
    """Whether nothing but autograd has to see a call with these tensors."""
    return not torch.compiler.is_compiling() and all(type(each) in (Tensor, Parameter) for each in tensors)


def eager(
    forward: Callable[..., tuple[Tensor, ...]],
    remember: Callable[[Any, tuple[Any, ...], tuple[Tensor, ...]], None],
    gradient: Callable[..., tuple[Any, ...]],
) -> Callable[..., tuple[Tensor, ...]]:
    """A function of forward's arguments, with gradients of the first order.

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
        @once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
            return tuple(None if isinstance(each, list) else each for each in gradient(ctx, *gradients))

    def call(*inputs: Any) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled() and any(isinstance(each, Tensor) and each.requires_grad for each in inputs):
            return Eager.apply(*inputs)  # type: ignore[no-any-return, no-untyped-call]
        return forward(*inputs)

    return call
