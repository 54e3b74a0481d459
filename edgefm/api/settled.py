"""What the verbs' functions share: the recipe out of file and options, and where they speak. Not a verb."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..spec.recipe import Recipe

say = logging.getLogger("edgefm").info


def read_recipe(file: str | Path | None, sets: tuple[str, ...], *, base: Recipe | None = None, **overrides: Any) -> Recipe:
    """The recipe of a verb: `base` or the defaults, the file, `--set`, then the verb's own options by dotted name."""
    from ..settings import load_recipe

    return load_recipe(file, sets, overrides, base=base)
