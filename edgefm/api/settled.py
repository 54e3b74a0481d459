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


def recorded(model: Any) -> Recipe | None:
    """The defaults for a verb that takes a run directory: how that run read and cut its data, so that what it trained on is
    not what the next one measures on. None for any other model.

    Raises:
        InputError: the run's recipe.yaml is damaged.
    """
    if not isinstance(model, (str, Path)):
        return None
    folder = Path(str(model).removeprefix("local-dir:"))
    file = folder / "recipe.yaml"
    if not (folder / "edgefm.json").is_file() or not file.is_file():
        return None
    from ..settings import data_changes, load_recipe
    from ..spec.recipe import Recipe

    data = load_recipe(file).data
    if data_changes(data):
        say(f"the data are read as they were for {folder}, with {data_changes(data)}; --set changes it")
    return Recipe(data=data)
