"""timm models by name, with their published weights.

Not folders (`timm_dir.py`). The weights come through `hub.py`, so a machine without a network gets an answer at once.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import timm

from ..errors import InputError
from . import hub
from .contract import preprocess_from_timm
from .encoder import TimmEncoder
from .loaded import LoadedModel, task_of
from .weights import file_sha256, read_weights

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def check_timm_name(name: str) -> None:
    """Raise `InputError` with the nearest names unless timm knows `name`, with or without a tag."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.6)
        raise InputError(
            f"timm has no model {name!r}",
            expected=f"one of {', '.join(near)}" if near else "a name that timm.list_models() lists",
        )
    if tag and not timm.is_model_pretrained(name):
        near = sorted(timm.list_pretrained(f"{architecture}.*"))[:3]
        raise InputError(
            f"timm has no weights {name!r}", expected=f"one of {', '.join(near)}" if near else "a name without a tag"
        )


def published_file(name: str) -> Path:
    """The published weights of the timm model `name`, as a local file.

    Raises:
        InputError: an unknown name, or weights that timm does not have or that cannot be had here.
    """
    check_timm_name(name)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise InputError(f"timm has no weights for {name!r}", do="choose a name that timm.list_pretrained() lists")
    if not config.hf_hub_id:
        raise InputError(
            f"the weights of timm's {name!r} are not on the Hugging Face Hub",
            do=f"download {config.url} and put it into a folder with timm's config.json",
        )
    wanted = (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHTS
    return hub.fetch_file(config.hf_hub_id, wanted)


def pretrained_timm(name: str, **options: Any) -> tuple[Any, str]:
    """The timm model `name` with its published weights and its own classifier, and the SHA-256 of the weights file.

    Raises:
        InputError: as `published_file`.
    """
    file = published_file(name)
    # As tensors rather than by hub id: timm would ask the hub again, and wait.
    overlay = {"state_dict": read_weights([file]), "hf_hub_id": None}
    try:
        model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except (RuntimeError, KeyError) as error:
        raise InputError(
            f"the weights in {file} are not those of timm's {name} ({str(error)[:200]})", do="delete it and try again"
        ) from error
    model.pretrained_cfg.pop("state_dict")
    return model, file_sha256(file)


def load_timm_name(name: str, *, licence: str | None = None) -> LoadedModel:
    """A timm model by name, as a teacher.

    Raises:
        InputError: as `pretrained_timm`.
    """
    model, sha256 = pretrained_timm(name)
    arguments = {"num_classes": model.num_classes}
    return LoadedModel(
        module=TimmEncoder(model, architecture=name.partition(".")[0], arguments=arguments).eval(),
        preprocess=preprocess_from_timm(model.pretrained_cfg, name),
        task=task_of(model.num_classes),
        name=name,
        licence=licence or model.pretrained_cfg.get("license") or "unknown",
        sha256=sha256,
    )
