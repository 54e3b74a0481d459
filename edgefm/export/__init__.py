"""Turn a torch model into graphs that other engines run, and prove that they answer the same. Not compression.

Nothing here imports torch until a name that needs it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fp32 import export
    from .onnx import export_onnx, onnx_entries
    from .openvino import export_openvino, openvino_entries
    from .standalone import export_standalone

_HOME = {
    "export": "fp32",
    "export_onnx": "onnx",
    "onnx_entries": "onnx",
    "export_openvino": "openvino",
    "openvino_entries": "openvino",
    "export_standalone": "standalone",
}

__all__ = ["export", "export_onnx", "export_openvino", "export_standalone", "onnx_entries", "openvino_entries"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
