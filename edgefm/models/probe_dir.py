"""Run directories of a classifier on a model that is no timm model: the classifier, and where the model is.

Not the run directories of timm models (`run_dir.py`), which hold everything in timm's own layout.

    edgefm.json          task, preprocessing, licence, ancestors, and the base: its source and hash
    head.safetensors     weight [K, D] and bias [K] of the classifier, float32
    base/                the model itself, where its weights have changed too (`base_dir.py`)
    recipe.yaml          the recipe as used, defaults filled in

Whether code may be run (`--trust-remote-code`) is not remembered: it is asked again whenever the base is code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
from torch import nn

from ..errors import InputError
from ..partial import write_atomically
from ..spec.manifest import Ancestor, Sha256
from ..spec.preprocess import Preprocess
from ..spec.recipe import Recipe
from ..spec.task import Task
from .base_dir import save_base, write_json
from .encoder import TimmEncoder, TokenPooling, TransformersEncoder
from .loaded import LoadedModel, task_of
from .probe import ProbeEncoder
from .weights import fill, find_weights, read_weights, weights_sha256

HEAD = "head.safetensors"
INSIDE = "base"


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model that a classifier stands on.

    Attributes:
        source: an absolute path, a hub id, a timm name or FILE.py:FUNCTION; None for the folder `base/` of the run.
        tap: the inner node that is its embedding, or None.
        sha256: as `base_sha256` gives it.
        pooling: of a transformers model inside, whose folder does not say it.
    """

    source: str | None = None
    tap: str | None = None
    sha256: Sha256
    pooling: TokenPooling | None = None


class ProbeCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`edgefm.json` of such a run. `preprocess` is what the classifier was fitted with, whatever the base says today."""

    format: Literal[1] = 1
    name: str
    task: Task
    preprocess: Preprocess
    base: Base
    licence: str
    ancestors: tuple[Ancestor, ...] = ()


def lasting_source(source: object, tap: str | None, model: LoadedModel) -> Base:
    """How a probe names the model it stands on.

    Args:
        source, tap: as given to `load_model`. model: what that gave.

    Raises:
        InputError: a module passed in Python, which nothing on disk can name.
    """
    if not isinstance(source, (str, Path)):
        raise InputError(
            f"the module {model.name} has no source that a run directory could name",
            expected="a model that can be loaded again",
            do="put what makes it into a function and give FILE.py:FUNCTION",
        )
    text = str(source)
    path = Path(text.removeprefix("local-dir:"))
    if path.exists():
        text = str(path.resolve())
    elif ".py:" in text:
        file, _, function = text.rpartition(":")
        text = f"{Path(file).resolve()}:{function}"
    return Base(source=text, tap=tap, sha256=base_sha256(text, model))


def base_sha256(source: str, model: LoadedModel) -> str:
    """The hash that a base is known by again: the model's own; of FILE.py:FUNCTION, the file's bytes and the model's hash."""
    if ".py:" not in source:
        return model.sha256
    code = Path(source.rpartition(":")[0]).read_bytes()
    return hashlib.sha256(code + model.sha256.encode()).hexdigest()


def save_probe(folder: Path, model: LoadedModel, recipe: Recipe, lineage: Sequence[Ancestor], base: Base | None) -> None:
    """Write the run directory into `folder`, which exists.

    Args:
        model: its module is a `ProbeEncoder`.
        base: where the model under the classifier is; None saves it whole, in `base/`.

    Raises:
        InputError: the base has no layout to be saved in, or the folder cannot be written.
    """
    from safetensors.torch import save

    from .run_dir import write_recipe

    assert isinstance(model.module, ProbeEncoder)
    if base is None:
        (folder / INSIDE).mkdir(exist_ok=True)
        _save_inside(folder / INSIDE, model, recipe, lineage)
        module = model.module.base
        pooling = module.pooling if isinstance(module, TransformersEncoder) else None
        base = Base(sha256=weights_sha256(find_weights(folder / INSIDE), module), pooling=pooling)
    card = ProbeCard(
        name=model.name,
        task=model.task,
        preprocess=model.preprocess,
        base=base,
        licence=model.licence,
        ancestors=tuple(lineage),
    )
    head = model.module.head.state_dict()
    write_atomically(folder / HEAD, save({name: head[name].detach().cpu().contiguous() for name in ("weight", "bias")}))
    write_json(folder / "edgefm.json", msgspec.to_builtins(card))
    write_recipe(folder, recipe)


def _save_inside(folder: Path, model: LoadedModel, recipe: Recipe, lineage: Sequence[Ancestor]) -> None:
    from .run_dir import save_run

    assert isinstance(model.module, ProbeEncoder)
    module = model.module.base
    if not isinstance(module, TimmEncoder):
        save_base(folder, module, model.preprocess)
        return
    classes = int(module.model.num_classes) if module.pooling == "own" else 0  # type: ignore[arg-type]
    save_run(folder, replace(model, module=module, task=task_of(classes)), recipe, lineage)


def load_probe(
    folder: Path, card: ProbeCard, *, tap: str | None = None, licence: str | None = None, trust_remote_code: bool = False
) -> LoadedModel:
    """Restore such a run: the base is loaded from where it is, and must be the one that the classifier was fitted on.

    Args:
        card: its `edgefm.json`.
        tap: refused where the base is a frozen graph, whose nodes a probe cannot reach.

    Raises:
        InputError: the base is not there, has changed, is code and not trusted, or a file of the run is damaged.
    """
    where = card.base.source or str(folder / INSIDE)
    base = _load_base(folder, card.base, where, trust_remote_code)
    if tap is not None and base.kind == "frozen":
        raise InputError(f"{folder} is a classifier on {where}", do=f"give that itself, with --tap {tap}")
    if base_sha256(where, base) != card.base.sha256:
        raise InputError(
            f"{where} has changed since {folder} was fitted on it",
            expected=f"SHA-256 {card.base.sha256[:16]}…",
            do="put the old one back, or run edgefm adapt again",
        )
    if card.base.pooling is not None and isinstance(base.module, TransformersEncoder):
        base.module.pooling = card.base.pooling
    file = folder / HEAD
    state = read_weights([file])
    width = state["weight"].shape[-1] if "weight" in state else 0
    head = nn.Linear(width, len(card.task.labels))
    fill(head, state, file)
    return replace(
        base,
        module=ProbeEncoder(base.module, head).eval(),
        preprocess=card.preprocess,
        task=card.task,
        name=card.name,
        licence=licence or card.licence,
        sha256=hashlib.sha256(file.read_bytes() + card.base.sha256.encode()).hexdigest(),
        ancestors=card.ancestors,
    )


def _load_base(folder: Path, base: Base, where: str, trust_remote_code: bool) -> LoadedModel:
    from .teachers import load_model

    file = Path(where.rpartition(":")[0] if ".py:" in where else where)
    if file.is_absolute() and not file.exists():
        raise InputError(f"{folder} stands on {where}, which is not there", do="put it back, or run edgefm adapt again")
    try:
        return load_model(where, tap=base.tap, trust_remote_code=trust_remote_code)
    except InputError as error:
        raise InputError(f"{folder} stands on a model: {error.found}", expected=error.expected, do=error.do) from error
