"""A folder with an adapter in PEFT's format, as a MODEL: the base it names, with the adapter merged into its weights.

Not the format (`peft_format.py`), and nothing quantized: the base is loaded in float32, W' = W + (alpha / rank) B A.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .encoder import TimmEncoder, TransformersEncoder
from .hf_dir import with_own_classifier
from .loaded import LoadedModel, task_of
from .peft_format import CONFIG, WEIGHTS, Adapter, library_names, load_adapter
from .probe import classifier_of, with_classifier
from .weights import file_sha256


def load_peft_folder(
    folder: Path, *, licence: str | None = None, hub_id: str | None = None, trust_remote_code: bool = False
) -> LoadedModel:
    """Load the base that `adapter_config.json` names, and merge the adapter.

    A classifier among the modules that learned along becomes the model's; its labels are not known then: "0", "1", ….

    Args:
        hub_id: where the folder came from, if from the hub. trust_remote_code: of a base that is code.

    Raises:
        InputError: the adapter is damaged or no plain LoRA (`peft_format.py`), names no base, or does not fit it.
    """
    from .teachers import load_model

    adapter = load_adapter(folder)
    if not adapter.base:
        raise InputError(
            f"{folder / CONFIG} does not say which model the adapter belongs to",
            expected="base_model_name_or_path",
            do="write there its folder, its timm name, or hf-hub:OWNER/NAME",
        )
    source = _source(adapter.base, folder, adapter.revision)
    if Path(source).resolve() == folder.resolve():
        raise InputError(f"{folder / CONFIG} names itself as the model it belongs to", expected="the model that it adapts")
    base = load_model(source, trust_remote_code=trust_remote_code)
    if base.kind == "frozen":
        raise InputError(f"the base of {folder}, {adapter.base}, is a frozen graph", expected="weights to merge into")
    model = _with_head(base, adapter, folder)
    _merge(model.module, adapter, folder)
    return replace(
        model,
        name=hub_id or folder.resolve().name,
        licence=licence or base.licence,
        sha256=hashlib.sha256((base.sha256 + file_sha256(folder / WEIGHTS)).encode()).hexdigest(),
    )


def _source(base: str, folder: Path, revision: str | None) -> str:
    """PEFT writes a hub id without `hf-hub:`, its revision apart, and a path as its user gave it."""
    beside = folder / base
    if ".py:" in base or ":" in base or Path(base).exists():
        return base
    if beside.is_dir():
        return str(beside)
    at = f"@{revision}" if revision else ""
    return f"hf-hub:{base}{at}" if base.count("/") == 1 and not base.startswith(("/", ".")) else base


def _with_head(base: LoadedModel, adapter: Adapter, folder: Path) -> LoadedModel:
    """The base with the classifier that learned along, where there is one."""
    heads = {key.removesuffix(".weight"): value for key, value in adapter.whole.items() if key.endswith(".weight")}
    if not heads:
        return base
    name, weight = next(iter(heads.items()))
    if len(heads) > 1 or weight.ndim != 2:
        raise InputError(f"{folder} brings whole modules: {', '.join(heads)}", expected="a linear classifier, or none")
    classes, width = weight.shape
    module, task = base.module, task_of(classes)
    if isinstance(module, TransformersEncoder):
        head = nn.Linear(width, classes)
        model = replace(base, module=with_own_classifier(module, head, base.preprocess, folder), task=task)
    elif isinstance(module, TimmEncoder) and module.pooling == "own":
        model = with_classifier(base, task, width)
        head = classifier_of(model.module)
    else:
        raise InputError(f"{folder} brings a classifier, {name}", expected="none for a model without a place for one")
    bias = adapter.whole.get(f"{name}.bias", torch.zeros(classes))
    if head.weight.shape != weight.shape:
        raise InputError(f"{folder} brings {name} {list(weight.shape)}", expected=f"{list(head.weight.shape)} as in its base")
    head.weight.data.copy_(weight)
    head.bias.data.copy_(bias)
    return replace(model, module=model.module.eval())


@torch.no_grad()
def _merge(module: nn.Module, adapter: Adapter, folder: Path) -> None:
    parts: dict[str, Any] = library_names(module)
    body = module.body if isinstance(module, TransformersEncoder) else None
    prefix = "" if body is None else f"{body.base_model_prefix}."  # of a classifier's model
    for name, (a, b) in adapter.layers.items():
        layer = parts.get(name, parts.get(name.removeprefix(prefix)))
        if not isinstance(layer, nn.Linear):
            near = next((each for each, part in parts.items() if isinstance(part, nn.Linear)), "none")
            raise InputError(
                f"{folder} adapts {name}, and its base as EdgeFM loads it has no linear layer of that name",
                expected=f"names such as {near}",
                do="merge it with peft first, if it is the base's classifier or pooler",
            )
        if tuple(layer.weight.shape) != (b.shape[0], a.shape[1]):
            raise InputError(
                f"{folder} has for {name} A {list(a.shape)} and B {list(b.shape)}",
                expected=f"factors of {list(layer.weight.shape)} as in its base",
            )
        layer.weight.addmm_(b, a, alpha=adapter.scale)
    _refuse_gaps(parts, adapter, folder)


def _refuse_gaps(parts: dict[str, Any], adapter: Adapter, folder: Path) -> None:
    """A layer that the configuration names and the file has not: peft would leave it as it starts, by chance."""
    linear = [name for name, part in parts.items() if isinstance(part, nn.Linear) and not _ends(name, adapter.modules)]
    for name in linear:
        if _ends(name, adapter.targets or ()) and not any(_ends(each, (name,)) for each in adapter.layers):
            raise InputError(
                f"{folder / CONFIG} names {name} among its target_modules, and {WEIGHTS} has no factors for it",
                do="take both files from the same place",
            )


def _ends(name: str, ends: tuple[str, ...]) -> bool:
    """Whether one of `ends` is `name`, or an end of it that begins after a dot."""
    return any(f".{name}".endswith(f".{each}") for each in ends)
