"""What the native engine's reader takes (docs/native-format.md), so that nothing is written that it would refuse.

`csrc/vit_description.cpp` has the same numbers; tests/native/test_vit_files.py holds one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_TOKENS, MOST_PIXELS = 65536, 65536  # of an image; values of a patch
BOUNDS = {
    "channels": (1, 4),
    "size": (1, 8192),
    "patch": (1, 256),
    "width": (8, 16384),
    "depth": (1, 256),
    "heads": (1, 256),
    "head_width": (32, 128),
    "hidden": (1, 65536),
    "prefix": (0, 256),
    "projection": (0, 65536),
    "classes": (0, 1 << 20),
}


def out_of_bounds(architecture: Mapping[str, Any]) -> tuple[str, str] | None:
    """(what was found, what was expected) of the first field that the engine would refuse; fields may be missing."""
    for name, (least, most) in BOUNDS.items():
        value = architecture.get(name, least)
        if not least <= value <= most:
            return f"{name} is {value}", f"{least} to {most}"
    if architecture.get("patch", 1) > architecture.get("size", MOST_PIXELS):
        return f"patches of {architecture['patch']} pixels in an image of {architecture['size']}", "patches that fit in"
    pixels = architecture.get("channels", 1) * architecture.get("patch", 1) ** 2
    if pixels > MOST_PIXELS:
        return f"patches of {pixels} values", f"at most {MOST_PIXELS}"
    eps = architecture.get("eps", 1.0)
    if not (eps <= 1 and np.float32(eps) > 0):
        return f"norms with eps {eps}", "more than 0 as float32, at most 1"
    return None
