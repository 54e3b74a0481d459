"""The card that tensors lie on, made current: Triton launches on the current one, whichever that is. No kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def capability(device: torch.device) -> tuple[int, int]:
    """The card's compute capability; 9.0 where there is none, whose tables the interpreter takes."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def on(t: Tensor) -> AbstractContextManager[Any]:
    """The card that the tensor lies on, made current for a while."""
    return torch.cuda.device(t.device) if t.is_cuda else nullcontext()


def on_its_card(function: Function) -> Function:
    """A function that runs on the card of its first argument, a tensor."""

    @functools.wraps(function)
    def run(first: Tensor, *rest: Any, **options: Any) -> Any:
        with on(first):
            return function(first, *rest, **options)

    return run  # type: ignore[return-value]
