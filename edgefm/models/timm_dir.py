"""A folder with timm's `config.json` and weights, as `timm.create_model("local-dir:…")` reads it, and then some.

Not names (`timm_names.py`) and not the hub (`hub.py`). What timm's own loader leaves to keyword arguments of the caller
is found in the weights (`vit_keys.py`) or in the table of families (`families.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError
from .contract import label_names, licence_of, preprocess_from_timm
from .encoder import Pooling, TimmEncoder
from .families import family_of
from .loaded import LoadedModel, task_of
from .mae import encoder_weights
from .timm_build import build_timm
from .timm_names import check_timm_name
from .vit_keys import vit_arguments, vit_structure
from .weights import fill, find_weights, misfits, read_weights, weights_sha256


def load_timm_folder(
    folder: Path,
    config: dict[str, Any],
    *,
    licence: str | None = None,
    hub_id: str | None = None,
    pooling: Pooling | None = None,
) -> LoadedModel:
    """Load a folder with timm's `config.json`, already read into `config`.

    Args:
        hub_id: where the folder came from, if from the hub.
        pooling: of `TimmEncoder`, where a run directory states it; None asks the table of families.

    Raises:
        InputError: an unknown architecture, arguments it does not take, weights that are missing, damaged or do not fit.
    """
    where = hub_id or str(folder)
    architecture = str(config["architecture"]).partition(".")[0]
    check_timm_name(architecture)
    cfg = {**config, **config.get("pretrained_cfg", {})} | {
        key: config[key] for key in ("num_classes", "label_names") if key in config
    }
    files = find_weights(folder)
    state = encoder_weights(read_weights(files))
    structure = vit_structure(state)
    arguments = _stated(config, cfg)
    if structure is not None and config.get("global_pool") is not None:
        arguments.setdefault("global_pool", config["global_pool"])
    preprocess = preprocess_from_timm(_input_of(cfg, arguments), where)
    family = family_of(hub_id, architecture, structure)
    if family is not None:
        preprocess = msgspec.structs.replace(preprocess, **family.preprocess)
    model = build_timm(architecture, arguments, cfg, where)
    if structure is not None and misfits(model, state):
        heads: int | None = model.blocks[0].attn.num_heads if getattr(model, "embed_dim", 0) == structure.width else None
        if family is not None and family.head_channels:
            heads = structure.width // family.head_channels
        arguments = vit_arguments(structure, arguments, heads=heads, where=where)
        model = build_timm(architecture, arguments, cfg, where)
    fill(model, state, where)
    if structure is not None and structure.grid * structure.patch != preprocess.size:
        # Positions learned at another size: interpolated once, here, as timm does when it loads them.
        model.set_input_size(img_size=preprocess.size)
        arguments["img_size"] = preprocess.size
    if pooling is None:
        pooling = family.pooling if family is not None and not model.num_classes else "own"
    if structure is not None and pooling == "own" and model.global_pool == "":
        raise InputError(
            f"the configuration of {where} leaves the pooling of its tokens open (global_pool '')",
            do="state global_pool under model_args: token or avg",
        )
    module = TimmEncoder(model, architecture=architecture, arguments=arguments, pooling=pooling).eval()
    return LoadedModel(
        module=module,
        preprocess=preprocess,
        task=task_of(model.num_classes, label_names(cfg.get("label_names"), model.num_classes, where)),
        name=hub_id or folder.resolve().name,
        licence=licence or licence_of(cfg.get("license"), folder),
        sha256=weights_sha256(files, module),
    )


def _stated(config: Mapping[str, Any], cfg: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {key: value for key, value in config.get("model_args", {}).items() if value is not None}
    arguments.setdefault("num_classes", int(cfg.get("num_classes", 0)))
    arguments.setdefault("in_chans", (cfg.get("input_size") or (3,))[0])
    return arguments


def _input_of(cfg: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`cfg` with the input size of a model whose size is fixed and stated among its arguments, as timm repairs it."""
    if cfg.get("input_size") and not (cfg.get("fixed_input_size") and arguments.get("img_size")):
        return dict(cfg)
    size = arguments.get("img_size") or 224
    height, width = (size, size) if isinstance(size, int) else size
    return {**cfg, "input_size": (arguments["in_chans"], height, width)}
