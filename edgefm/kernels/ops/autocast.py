"""What autocast does to an operator's inputs. Not to its sums, which are fp32 at least."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Autocast's dtype on a device; None where it is off, or where there is none (meta)."""
    kind = device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None


def cast(x: Tensor) -> Tensor:
    """x in autocast's dtype, where it is on; as PyTorch's own products, which leave fp64 alone."""
    if x.dtype == torch.float64 or not x.is_floating_point():
        return x
    dtype = autocast_dtype(x.device)
    return x if dtype is None else x.to(dtype)


def without_autocast(function: Function) -> Function:
    """A function whose products stay in the types that are written there, on the device of its first argument, a tensor."""

    @functools.wraps(function)
    def run(first: Tensor, *rest: Any, **options: Any) -> Any:
        if autocast_dtype(first.device) is None:
            return function(first, *rest, **options)
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *rest, **options)

    return run  # type: ignore[return-value]
