"""Models in: load any teacher, name its taps, build any student, save and restore runs.

Not training and not export: those rooms take a `LoadedModel` and give one back.

Nothing here imports torch until a name that needs it is used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loaded import LoadedModel, Outputs
    from .run_dir import save_run
    from .students import PRESETS, Preset, build_student
    from .taps import Tap, list_taps
    from .teachers import load_model

# Read once, when huggingface_hub is imported: without it even look-ups in the cache ask the hub which program is calling.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_HOME = {
    "LoadedModel": "loaded",
    "Outputs": "loaded",
    "load_model": "teachers",
    "list_taps": "taps",
    "Tap": "taps",
    "PRESETS": "students",
    "Preset": "students",
    "build_student": "students",
    "save_run": "run_dir",
}

__all__ = ["PRESETS", "LoadedModel", "Outputs", "Preset", "Tap", "build_student", "list_taps", "load_model", "save_run"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .extra import compress_extra

    with compress_extra():
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
