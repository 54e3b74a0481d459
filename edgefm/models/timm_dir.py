"""timm models: by name in timm's registry, and from a folder with timm's `config.json`.

Not the hub: `hub.py` turns a hub id into such a folder.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from .contract import preprocess_from_timm
from .loaded import LoadedModel, task_of
from .weights import find_weights, load_weights, read_weights, state_sha256, weights_sha256


def check_timm_name(name: str) -> None:
    """Raise `InputError` with the nearest names unless timm knows `name` (with or without a tag)."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.6)
        known = f"one of {', '.join(near)}" if near else "a name that timm.list_models() lists"
        raise InputError(f"timm has no model {name!r}, and there is no file or folder of that name", expected=known)
    if tag and not timm.is_model_pretrained(name):
        near = [known for known in timm.list_pretrained(f"{architecture}.*")][:3]
        raise InputError(f"timm has no weights {name!r}", expected=f"one of {', '.join(near)}" if near else "")


def load_timm_folder(folder: Path, config: dict[str, Any], *, licence: str | None) -> LoadedModel:
    """A folder with timm's `config.json` (already read into `config`) and weights.

    Raises:
        InputError: an unknown architecture, weights that are missing, damaged or do not fit.
    """
    import timm

    from .encoder import TimmEncoder

    architecture = str(config["architecture"])
    check_timm_name(architecture)
    cfg = {**config, **config.get("pretrained_cfg", {})}
    classes = int(config.get("num_classes", cfg.get("num_classes", 0)))
    arguments = dict(config.get("model_args", {}))
    arguments.setdefault("num_classes", classes)
    arguments.setdefault("in_chans", (cfg.get("input_size") or (3,))[0])
    if config.get("global_pool") is not None:
        arguments.setdefault("global_pool", config["global_pool"])
    model = timm.create_model(architecture, pretrained=False, **arguments)
    files = find_weights(folder)
    load_weights(model, read_weights(files), folder)
    labels = tuple(str(label) for label in cfg.get("label_names") or ())
    module = TimmEncoder(model, architecture=architecture, arguments=arguments).eval()
    return LoadedModel(
        module=module,
        preprocess=preprocess_from_timm(cfg, str(folder)),
        task=task_of(int(arguments["num_classes"]), labels),
        name=folder.name,
        licence=licence or str(cfg.get("license") or "unknown"),
        sha256=weights_sha256(files, module),
    )


def load_timm_name(name: str, *, licence: str | None) -> LoadedModel:
    """A timm model by name with its pretrained weights."""
    import timm

    from .encoder import TimmEncoder

    check_timm_name(name)
    model = timm.create_model(name, pretrained=True)
    module = TimmEncoder(model, architecture=name.partition(".")[0], arguments={"num_classes": model.num_classes}).eval()
    return LoadedModel(
        module=module,
        preprocess=preprocess_from_timm(model.pretrained_cfg, name),
        task=task_of(model.num_classes),
        name=name,
        licence=licence or str(model.pretrained_cfg.get("license") or "unknown"),
        sha256=state_sha256(model.state_dict()),
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object out of a file.

    Raises:
        InputError: it is not one.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not readable JSON ({error})", do="download or write it again") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} is not a JSON object", do="download or write it again")
    return found
