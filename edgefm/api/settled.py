"""What the verbs' functions share: the recipe out of file and options, and where they speak. Not a verb."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..spec.recipe import Recipe

say = logging.getLogger("edgefm").info


def read_recipe(file: str | Path | None, sets: tuple[str, ...], *, base: Recipe | None = None, **overrides: Any) -> Recipe:
    """The recipe of a verb: `base` or the defaults, the file, `--set`, then the verb's own options by dotted name."""
    from ..settings import load_recipe

    return load_recipe(file, sets, overrides, base=base)


def run_recipe(model: Any) -> Recipe | None:
    """The recipe that a run directory was made with; None for any other model. Raises `InputError`: it is damaged."""
    if not isinstance(model, (str, Path)):
        return None
    folder = Path(str(model).removeprefix("local-dir:"))
    if not (folder / "edgefm.json").is_file() or not (folder / "recipe.yaml").is_file():
        return None
    from ..settings import load_recipe

    return load_recipe(folder / "recipe.yaml")


def recorded(model: Any) -> Recipe | None:
    """The defaults for a verb that takes a run directory or a bundle: how its data were read and cut, so that what it trained
    on is not what the next one measures on. None for a model that carries no such record.

    Raises:
        InputError: the run's recipe.yaml is damaged. BundleError: not a good bundle.
    """
    import msgspec

    from ..spec.recipe import Recipe
    from ..verification import recorded as told

    run = run_recipe(model)
    kept = _of_bundle(model) if run is None else msgspec.to_builtins(run)
    return Recipe(data=told(kept, str(model).removeprefix("local-dir:"), say).data) if "data" in kept else None


def _of_bundle(model: Any) -> dict[str, Any]:
    if not isinstance(model, (str, Path)) or Path(model).suffix.lower() != ".efm" or not Path(model).is_file():
        return {}
    from ..bundle import open_bundle

    with open_bundle(Path(model)) as bundle:
        return bundle.manifest.recipe


def read_recipe_of(models: tuple[Any, ...], file: str | Path | None, sets: tuple[str, ...], **overrides: Any) -> Recipe:
    """The recipe of a verb that takes several models: as `read_recipe`, with what they have recorded as the defaults.

    Raises:
        InputError: their data were read or cut differently, and neither file nor `--set` says how.
    """
    import msgspec

    settled = [
        (model, read_recipe(file, sets, base=found, **overrides)) for model in models if (found := recorded(model)) is not None
    ]
    for model, recipe in settled[1:]:
        ways = [msgspec.to_builtins(each.data) for each in (settled[0][1], recipe)]
        apart = [key for key in ways[0] if ways[0][key] != ways[1][key]]
        if apart:
            first, other = (", ".join(_setting(key, way[key]) for key in apart) for way in ways)
            raise InputError(
                f"the data of {settled[0][0]} were read with {first}, those of {model} with {other}",
                expected="models whose data were read and cut alike",
                do=f"say how these are to be read, for example with --set {first.replace(', ', ' --set ')}",
            )
    return settled[0][1] if settled else read_recipe(file, sets, **overrides)


def _setting(key: str, value: Any) -> str:
    return f"data.{key}={'null' if value is None else value}"
