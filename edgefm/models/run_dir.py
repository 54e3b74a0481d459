"""Run directories: what `adapt` and `distill` leave behind, and every verb takes as MODEL.

Not checkpoints: `train/` keeps optimizer and loop state beside these files while a run goes on.

    config.json          timm's own layout, so that `timm.create_model("local-dir:RUN", pretrained=True)` loads it
    model.safetensors    the weights, float32, same bytes for same weights
    edgefm.json          task, preprocessing, licence, ancestors
    recipe.yaml          the recipe as used, defaults filled in

A classifier on any other model has files of its own: `probe_dir.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..errors import InputError
from ..partial import write_atomically
from ..spec.manifest import Ancestor
from ..spec.preprocess import Preprocess
from ..spec.recipe import Recipe
from ..spec.task import Task
from .base_dir import write_json
from .contract import read_json
from .loaded import LoadedModel

if TYPE_CHECKING:
    from .probe_dir import Base

CARD = "edgefm.json"


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`edgefm.json`: what timm's `config.json` has no words for."""

    format: Literal[1] = 1
    name: str
    task: Task
    preprocess: Preprocess
    pooling: Literal["own", "class+patches", "projected"] = "own"
    licence: str
    ancestors: tuple[Ancestor, ...] = ()


def save_run(folder: Path, model: LoadedModel, recipe: Recipe, lineage: Sequence[Ancestor], base: Base | None = None) -> None:
    """Write a run directory into `folder`, which exists; files already there are replaced.

    Args:
        model: its module must be a timm model of ours (`TimmEncoder`), as `build_student` and the timm loaders give it, or
            have a classifier on top (`ProbeEncoder`).
        lineage: what the weights descend from, nearest first; `load_model` gives it back as `ancestors`.
        base: of a classifier on top: where the model under it is; None saves that whole.

    Raises:
        InputError: another kind of module, or the folder cannot be written.
    """
    from safetensors.torch import save

    from .encoder import TimmEncoder
    from .probe import ProbeEncoder
    from .probe_dir import save_probe

    if isinstance(model.module, ProbeEncoder):
        save_probe(folder, model, recipe, lineage, base)
        return
    if not isinstance(model.module, TimmEncoder):
        raise InputError(f"{model.name} is not a timm model", expected="a timm architecture in a run directory")
    state = {key: value.detach().cpu().contiguous() for key, value in model.module.model.state_dict().items()}
    card = Card(
        name=model.name,
        task=model.task,
        preprocess=model.preprocess,
        pooling=model.module.pooling,
        licence=model.licence,
        ancestors=tuple(lineage),
    )
    # No metadata in the safetensors header: the library writes two or more keys in random order.
    write_atomically(folder / "model.safetensors", save(state))
    write_json(folder / "config.json", _timm_config(model, model.module))
    write_json(folder / CARD, msgspec.to_builtins(card))
    write_recipe(folder, recipe)


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """recipe.yaml: the recipe as used, defaults filled in."""
    import yaml

    write_atomically(folder / "recipe.yaml", yaml.safe_dump(msgspec.to_builtins(recipe), sort_keys=False).encode())


def _timm_config(model: LoadedModel, module: Any) -> dict[str, Any]:
    preprocess, own = model.preprocess, module.model.pretrained_cfg
    config: dict[str, Any] = {
        "architecture": module.architecture,
        "num_classes": module.model.num_classes,
        "num_features": module.model.num_features,
        "model_args": module.arguments,
        "pretrained_cfg": {
            "input_size": [preprocess.channels, preprocess.size, preprocess.size],
            "fixed_input_size": bool(own.get("fixed_input_size", False)),
            "interpolation": preprocess.filter,
            "crop_pct": _crop_pct(preprocess),
            "crop_mode": "squash" if preprocess.resize == "squash" else "center",
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "num_classes": module.model.num_classes,
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
            "license": model.licence,
        },
    }
    if model.task.labels:
        config["label_names"] = list(model.task.labels)
    return config


def _crop_pct(preprocess: Preprocess) -> float:
    """The `crop_pct` for which timm's floor(size / crop_pct) is `resize_to` again, whatever the rounding."""
    share = preprocess.size / preprocess.resize_to
    return share if floor(preprocess.size / share) == preprocess.resize_to else share * (1 - 1e-12)


def load_run(
    folder: Path, *, tap: str | None = None, licence: str | None = None, trust_remote_code: bool = False
) -> LoadedModel:
    """Restore a run directory: same weights, task, preprocessing, pooling and lineage.

    Args:
        tap: one that the caller will look for, refused where it could not be found. trust_remote_code: of a base that is code.

    Raises:
        InputError: `edgefm.json` is damaged or of a newer EdgeFM, or the timm part or the base does not load.
    """
    from .probe_dir import ProbeCard, load_probe
    from .timm_dir import load_timm_folder

    file = folder / CARD
    try:
        data = file.read_bytes()
        probes = "base" in msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        kind: type[Card] | type[ProbeCard] = ProbeCard if probes else Card
        card = msgspec.json.decode(data, type=kind)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read ({error})", do="update EdgeFM, or run the verb that made this directory again"
        ) from error
    if isinstance(card, ProbeCard):
        return load_probe(folder, card, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    loaded = load_timm_folder(folder, read_json(folder / "config.json"), pooling=card.pooling)
    if card.pooling != "projected" and len(loaded.task.labels) != len(card.task.labels):
        raise InputError(
            f"{file} names {len(card.task.labels)} labels for {len(loaded.task.labels)} classes",
            do="run the verb that made this directory again",
        )
    return replace(
        loaded,
        preprocess=card.preprocess,
        task=card.task,
        name=card.name,
        licence=licence or card.licence,
        ancestors=card.ancestors,
    )
