"""The input contract out of other libraries' configurations: timm `pretrained_cfg`, Hugging Face preprocessors.

Not the preprocessing itself, and no guessing: what `Preprocess` cannot say is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any, Literal

from ..errors import InputError
from ..spec.preprocess import Preprocess

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Filter = Literal["bilinear", "bicubic"]


def preprocess_from_timm(config: Mapping[str, Any], where: str) -> Preprocess:
    """The contract of a timm `pretrained_cfg`, as `timm.data.create_transform(**resolve_data_config(...))` applies it.

    The shorter side (`crop_mode` "center") or both sides ("squash") go to floor(size / crop_pct), then the centre is cut.

    Raises:
        InputError: an oblong input, a `crop_mode` or filter that `Preprocess` has no word for.
    """
    channels, height, width = config.get("input_size") or (3, 224, 224)
    if height != width:
        raise InputError(f"{where} takes images of {height} x {width} pixels", expected="a square input")
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise InputError(f"{where} asks for crop_mode {mode!r}", expected="'center' or 'squash'")
    crop = config.get("crop_pct") or 0.875
    mean = tuple(config.get("mean") or IMAGENET_MEAN)
    std = tuple(config.get("std") or IMAGENET_STD)
    return _preprocess(
        where,
        channels=channels,
        size=height,
        resize="squash" if mode == "squash" else "shorter",
        resize_to=floor(height / crop),
        filter=_filter(config.get("interpolation") or "bicubic", where),
        mean=mean,
        std=std,
    )


def _filter(name: str, where: str) -> Filter:
    if name == "bicubic" or name == "bilinear":
        return name
    raise InputError(
        f"{where} resizes with the filter {name!r}",
        expected="bilinear or bicubic",
        do="state one of them in its configuration and verify the difference",
    )


def _preprocess(where: str, **fields: Any) -> Preprocess:
    try:
        return Preprocess(**fields)
    except ValueError as error:
        raise InputError(f"the preprocessing of {where} is not usable: {error}", do="correct its configuration") from error
