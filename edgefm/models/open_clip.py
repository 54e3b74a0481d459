"""The image tower of an open_clip folder (`open_clip_config.json`), without open_clip: BiomedCLIP and its kin.

Not the text half, whose weights are left aside. Read are towers whose trunk is a timm model (`timm_model_name`), and CLIP's own
vision transformer, which becomes one (`open_clip_vit.py`).

open_clip's `TimmModel`: trunk with the pooling `timm_pool` ("" keeps the trunk's own), then `head.proj`, linear or a two-layer
MLP. The embedding is that projection, as `encode_image` gives it before normalisation to unit length. `preprocess_cfg` is
open_clip's: shorter side to the size, centre cut.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..spec.preprocess import Preprocess
from ..spec.task import make_task
from .contract import licence_of, preprocess_from_timm
from .encoder import ImageTower
from .loaded import LoadedModel
from .open_clip_vit import is_vit, timm_keys, vit_trunk
from .timm_build import build_timm
from .timm_names import check_timm_name
from .vit_keys import vit_structure
from .weights import State, fill, find_weights, read_weights, weights_sha256

# open_clip/constants.py
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MODES = {"shortest": "center", "squash": "squash"}


def load_open_clip_folder(
    folder: Path, config: dict[str, Any], *, licence: str | None = None, hub_id: str | None = None
) -> LoadedModel:
    """Load the image tower of a folder with `open_clip_config.json`, already read into `config`.

    Raises:
        InputError: a tower that is not a timm model, weights that are missing, damaged or do not fit.
    """
    where = hub_id or str(folder)
    model_cfg = config.get("model_cfg", {})
    vision = model_cfg.get("vision_cfg", {})
    own = is_vit(vision)
    if not own and "timm_model_name" not in vision:
        raise InputError(
            f"the image tower of {where} is neither a timm model nor a vision transformer",
            expected="timm_model_name, or layers, width and patch_size, under vision_cfg",
            do="give it as file.py:function",
        )
    architecture, stated = vit_trunk(model_cfg, where) if own else (str(vision["timm_model_name"]).partition(".")[0], {})
    check_timm_name(architecture)
    files = find_weights(folder)
    state = {key.removeprefix("visual."): value for key, value in read_weights(files).items() if key.startswith("visual.")}
    if own:
        state = timm_keys(state)
    size = int(vision.get("image_size", 224))
    arguments = {"num_classes": 0, **stated, **vision.get("timm_model_args", {})}
    if vision.get("timm_pool"):
        arguments["global_pool"] = vision["timm_pool"]
    structure = vit_structure({key.removeprefix("trunk."): value for key, value in state.items()})
    if structure is not None:
        arguments.setdefault("img_size", structure.grid * structure.patch)
    trunk = build_timm(architecture, arguments, {}, where)
    tower = ImageTower(trunk, _projection(state, where), architecture=architecture, arguments=arguments)
    fill(tower, {_renamed(key): value for key, value in state.items()}, where)
    if structure is not None and structure.grid * structure.patch != size:
        trunk.set_input_size(img_size=size)
        arguments["img_size"] = size
    return LoadedModel(
        module=tower.eval(),
        preprocess=_preprocess(config.get("preprocess_cfg", {}), size, where),
        task=make_task("embedding"),
        name=hub_id or folder.resolve().name,
        licence=licence or licence_of(None, folder),
        sha256=weights_sha256(files, tower),
    )


def _projection(state: State, where: object) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name in ("proj", "mlp.fc1", "mlp.fc2"):
        weight = state.get(f"head.{name}.weight")
        if weight is None:
            continue
        if weight.ndim != 2:
            raise InputError(f"head.{name}.weight of {where} has the shape {list(weight.shape)}", expected="two dimensions")
        if name == "mlp.fc2":
            layers["act"] = nn.GELU()
        width_out, width_in = weight.shape
        with torch.device("meta"):
            layers[name.rpartition(".")[2]] = nn.Linear(width_in, width_out, bias=f"head.{name}.bias" in state)
    return nn.Sequential(layers)


def _renamed(key: str) -> str:
    return key.replace("head.mlp.", "projection.", 1).replace("head.", "projection.", 1)


def _preprocess(config: dict[str, Any], size: int, where: str) -> Preprocess:
    mode = config.get("resize_mode", "shortest")
    return preprocess_from_timm(
        {
            "input_size": (3, size, size),
            "crop_pct": 1.0,
            "crop_mode": MODES.get(mode, mode),
            "interpolation": config.get("interpolation", "bicubic"),
            "mean": config.get("mean", CLIP_MEAN),
            "std": config.get("std", CLIP_STD),
        },
        where,
    )
