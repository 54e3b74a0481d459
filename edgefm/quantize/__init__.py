"""Make a model int8, prove on real images what that costs, and write the bundle or its refusal. Not training.

Nothing here imports NNCF or torch until `quantize` is called for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .int8 import quantize

__all__ = ["quantize"]


def __getattr__(name: str) -> Any:
    if name != "quantize":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".int8", __name__).quantize
