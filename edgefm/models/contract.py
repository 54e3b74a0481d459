"""The input contract, label names and licence out of other libraries' configurations.

Not the preprocessing itself, and no guessing: what `Preprocess` cannot say is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import floor
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..errors import InputError
from ..spec.preprocess import Preprocess

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Filter = Literal["bilinear", "bicubic"]
FILTERS: dict[str, Filter] = {"bilinear": "bilinear", "bicubic": "bicubic"}
PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# Processors of transformers that mean "shorter side" by a bare number; the others mean both sides.
SHORTER_BY_NUMBER = ("BitImageProcessor", "CLIPImageProcessor", "DeiTImageProcessor", "CLIPFeatureExtractor")


def preprocess_from_timm(config: Mapping[str, Any], where: str) -> Preprocess:
    """The contract of a timm `pretrained_cfg`, as `timm.data.create_transform(**resolve_data_config(...))` applies it.

    The shorter side (`crop_mode` "center") or both sides ("squash") go to floor(size / crop_pct), then the centre is cut.

    Raises:
        InputError: an oblong input, a `crop_mode` or filter that `Preprocess` has no word for.
    """
    channels, height, width = config.get("input_size") or (3, 224, 224)
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise InputError(f"{where} asks for crop_mode {mode!r}", expected="'center' or 'squash'")
    return _preprocess(
        where,
        channels=channels,
        size=_square(height, width, where),
        resize="squash" if mode == "squash" else "shorter",
        resize_to=floor(height / (config.get("crop_pct") or 0.875)),
        filter=_filter(config.get("interpolation") or "bicubic", where),
        mean=tuple(config.get("mean") or IMAGENET_MEAN),
        std=tuple(config.get("std") or IMAGENET_STD),
    )


def preprocess_from_processor(config: Mapping[str, Any], where: str) -> Preprocess:
    """The contract of a Hugging Face `preprocessor_config.json`.

    `size` as {height, width} squashes, as {shortest_edge} or a bare number of a CLIP-like processor keeps the aspect ratio.
    A shorter side without `do_center_crop` gives oblong tensors for oblong images; here the centre is cut, which changes
    nothing for square ones. A `rescale_factor` other than 1/255 goes into mean and std.

    Raises:
        InputError: padding, `crop_pct`, no resize, or a filter that `Preprocess` has no word for.
    """
    for key in ("do_pad", "crop_pct", "rescale_offset", "do_crop_margin"):
        if config.get(key):
            raise InputError(f"{where} asks for {key} in preprocessor_config.json", do="give it as file.py:function")
    if not config.get("do_resize", True):
        raise InputError(f"{where} takes images that are not resized", do="give it as file.py:function")
    size = config.get("size") or {"height": 224, "width": 224}
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "").removesuffix("Fast")
    if not isinstance(size, Mapping):
        size = {"shortest_edge": size} if kind in SHORTER_BY_NUMBER else {"height": size, "width": size}
    squash = "shortest_edge" not in size
    resize_to = _square(size["height"], size["width"], where) if squash else int(size["shortest_edge"])
    crop = config.get("crop_size") or resize_to
    if isinstance(crop, Mapping):
        crop = _square(crop["height"], crop["width"], where)
    scale = 255 * (config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 255.0
    mean, std = config.get("image_mean") or IMAGENET_MEAN, config.get("image_std") or IMAGENET_STD
    if not config.get("do_normalize", True):
        mean, std = [0.0] * len(mean), [1.0] * len(std)
    resample = config.get("resample", 3 if kind in SHORTER_BY_NUMBER else 2)
    return _preprocess(
        where,
        channels=len(mean),
        size=crop if config.get("do_center_crop") else resize_to,
        resize="squash" if squash else "shorter",
        resize_to=resize_to,
        filter=_filter(PILLOW_FILTERS.get(resample, str(resample)), where),
        mean=tuple(_unscaled(value, scale) for value in mean),
        std=tuple(_unscaled(value, scale) for value in std),
    )


def _unscaled(value: float, scale: float) -> float:
    # 255 * 0.00392156862745098 is one rounding away from 1: keep the stated figures where they mean the same.
    return value if abs(scale - 1) < 1e-6 else value / scale


def _square(height: int, width: int, where: str) -> int:
    if height != width:
        raise InputError(f"{where} takes images of {height} x {width} pixels", expected="a square input")
    return height


def _filter(name: str, where: str) -> Filter:
    if name in FILTERS:
        return FILTERS[name]
    raise InputError(
        f"{where} resizes with the filter {name!r}",
        expected="bilinear or bicubic",
        do="state one of them in its configuration and verify the difference",
    )


def _preprocess(where: str, **fields: Any) -> Preprocess:
    try:
        return msgspec.convert(fields, Preprocess)
    except ValueError as error:
        raise InputError(f"the preprocessing of {where} is not usable: {error}", do="correct its configuration") from error


def label_names(stated: Mapping[Any, str] | Sequence[str] | None, classes: int, where: str) -> tuple[str, ...]:
    """Label names in the order of the logits, out of timm's `label_names` or transformers' `id2label`.

    A mapping from class index may have gaps, which get their number. transformers' own "LABEL_0", … count as no names.
    Empty where nothing is stated.

    Raises:
        InputError: more or fewer names than classes, or one name twice.
    """
    if not stated or not classes:
        return ()
    if isinstance(stated, Mapping):
        by_index = {str(key): str(value) for key, value in stated.items()}
        names = tuple(by_index.pop(str(index), str(index)) for index in range(classes))
        count = len(names) + len(by_index)
    else:
        names = tuple(str(name) for name in stated)
        count = len(names)
    if count != classes:
        raise InputError(f"{where} names {count} labels for {classes} classes", do="correct them in its configuration")
    if len(set(names)) != classes:
        raise InputError(f"{where} gives two classes the same label", do="correct label_names in its configuration")
    if names == tuple(f"LABEL_{index}" for index in range(classes)):
        return ()
    return names


def licence_of(stated: Any, folder: Path) -> str:
    """The licence that a configuration states, else the front matter of the folder's README.md, else "unknown"."""
    if stated:
        return str(stated)
    card = folder / "README.md"
    if card.is_file():
        front = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        found = re.search(r"^license:[ \t]*([^\s#]+)", front[1], re.MULTILINE) if front else None
        if found:
            return found[1].strip("\"'")
    return "unknown"


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
