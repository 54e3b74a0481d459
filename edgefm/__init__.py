"""EdgeFM: medical foundation models made small enough for the PC a hospital already has, with proof that nothing was lost.

Nothing heavy is imported here: each name loads when it is first used.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# Telemetry of what EdgeFM calls is off. ONNX Runtime (1.29 on) and OpenVINO send from their import on, so it is said here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

VERBS = ("quickstart", "adapt", "distill", "quantize", "export", "verify", "bench", "run", "inspect", "slim", "doctor")
_CLASSES = {
    "Session": "edgefm.runtime.session",
    "Answer": "edgefm.runtime.session",
    "Bundle": "edgefm.bundle",
    "open_bundle": "edgefm.bundle",
    "EdgeFMError": "edgefm.errors",
    "Preprocess": "edgefm.spec.preprocess",
    "Task": "edgefm.spec.task",
}


def __getattr__(name: str) -> Any:
    """Load a verb (from `edgefm.api`) or a class of the public interface on first use."""
    from importlib import import_module

    if name in VERBS:
        return getattr(import_module("edgefm.api"), name)
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'edgefm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *VERBS, *_CLASSES})


class _Verb(ModuleType):
    """A room named after its verb: `edgefm.distill.losses` is in the room, `edgefm.distill(...)` is the verb."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])(*args, **options)


class _Package(ModuleType):
    """Importing the room `edgefm.distill` would hide the verb `edgefm.distill`; this makes the room callable instead."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in VERBS and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
