"""A model without a classifier of its own, saved whole in its library's layout, so that the loader of that layout reads it.

Not a run directory: it lies inside one, as `base/`, under a classifier (`probe_dir.py`).

| module | layout |
|---|---|
| `TimmEncoder` | a run directory |
| `TransformersEncoder` | config.json, model.safetensors, preprocessor_config.json |
| `ImageTower` | open_clip_config.json, open_clip_model.safetensors |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import InputError
from ..partial import write_atomically
from ..spec.preprocess import Preprocess
from .contract import PILLOW_FILTERS
from .encoder import ImageTower, TimmEncoder, TransformersEncoder
from .timm_build import rebuilds


def savable(module: nn.Module) -> bool:
    """Whether a model's weights can be saved in a layout that is read again."""
    if isinstance(module, TimmEncoder):
        return rebuilds(module.model, module.architecture, module.arguments)
    return isinstance(module, (TransformersEncoder, ImageTower))


def save_base(folder: Path, module: nn.Module, preprocess: Preprocess) -> None:
    """Write transformers' or open_clip's layout into `folder`, which exists. The same weights give the same bytes.

    Raises:
        InputError: another kind of module (`savable`), or the folder cannot be written.
    """
    if isinstance(module, TransformersEncoder):
        from safetensors import SafetensorError

        from .hf_dir import quiet

        body: Any = module.body
        try:
            with quiet():
                body.cpu().save_pretrained(folder)
        except SafetensorError as error:  # a full disk, in the library's own words
            raise InputError(f"{folder} cannot be written ({error})", do="free some space or choose another -o") from error
        write_json(folder / "preprocessor_config.json", _processor(preprocess))
    elif isinstance(module, ImageTower):
        from safetensors.torch import save

        state = {f"visual.{_open_clip_key(key)}": value.cpu().contiguous() for key, value in module.state_dict().items()}
        write_atomically(folder / "open_clip_model.safetensors", save(state))
        write_json(folder / "open_clip_config.json", _open_clip_config(module, preprocess))
    else:
        raise InputError(f"a {type(module).__name__} has no layout to be saved in", do="save it as a model folder yourself")


def write_json(file: Path, value: Any) -> None:
    """A JSON file as people read it, whole or not at all."""
    write_atomically(file, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _processor(preprocess: Preprocess) -> dict[str, Any]:
    """`preprocessor_config.json` for all of the contract but `window16`, which transformers has no word for."""
    side, squash = preprocess.resize_to, preprocess.resize == "squash"
    resample = {name: number for number, name in PILLOW_FILTERS.items()}
    return {
        "image_processor_type": "ViTImageProcessor" if squash else "BitImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side} if squash else {"shortest_edge": side},
        "resample": resample[preprocess.filter],
        "do_center_crop": True,
        "crop_size": {"height": preprocess.size, "width": preprocess.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _open_clip_key(key: str) -> str:
    part, _, name = key.partition(".")
    if part == "trunk":
        return key
    return f"head.{name}" if name.startswith("proj.") else f"head.mlp.{name}"


def _open_clip_config(tower: ImageTower, preprocess: Preprocess) -> dict[str, Any]:
    vision = {
        "image_size": preprocess.size,
        "timm_model_name": tower.architecture,
        "timm_model_args": tower.arguments,
        "timm_pool": "",
    }
    looks = {
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.filter,
        "resize_mode": "squash" if preprocess.resize == "squash" else "shortest",
    }
    return {"model_cfg": {"vision_cfg": vision}, "preprocess_cfg": looks}
