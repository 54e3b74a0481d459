"""One image corrupted: stored pixels in, stored pixels out, before any preprocessing. Not the kinds of corruption."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...runtime.preprocess import check_pixels
from .modalities import CORRUPTIONS, MODALITIES, SEVERITIES

Array = npt.NDArray[Any]
SIDE = 224  # the size of the images for which the severities are stated


def corrupt(
    pixels: Array,
    name: str,
    severity: int,
    *,
    modality: str,
    seed: int = 0,
    index: int = 0,
    window: tuple[float, float] = (0.0, 65535.0),
) -> Array:
    """The image as it would be stored after one corruption.

    Args:
        pixels: uint8 or uint16, `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels, of any size. Alpha stays as it is; three equal
            channels are one grey image and stay equal.
        name: one of the modality's corruptions. severity: 1 to 5. modality: a key of `MODALITIES`.
        seed, index: with name and severity all that chance depends on; index is the image's position in its data set.
        window: what is black and white to the model in 16-bit pixels, as `Preprocess.window16`; what lies outside is cut off.

    Returns:
        The same dtype and shape, a new array.

    Raises:
        ImageError: no image, or one that JPEG cannot hold.
        InputError: no such modality, corruption or severity.
    """
    strengths = MODALITIES.get(modality)
    if strengths is None:
        raise InputError(f"there is no modality {modality!r}", expected=", ".join(MODALITIES))
    if name not in strengths:
        raise InputError(f"{modality} has no corruption {name!r}", expected=", ".join(strengths))
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity}", expected="1 to 5")
    pixels = check_pixels(pixels)
    random = np.random.default_rng([seed, index, zlib.crc32(name.encode()), severity])
    low, high = window if pixels.dtype == np.uint16 else (0.0, 255.0)
    planes = pixels[..., None] if pixels.ndim == 2 else pixels[..., : min(3, pixels.shape[2])]
    grey = planes.shape[2] == 3 and bool((planes == planes[..., :1]).all())
    x = np.clip((planes[..., :1] if grey else planes).astype(np.float32) - low, 0, high - low) / np.float32(high - low)
    x = CORRUPTIONS[name](x, random, strengths[name][severity - 1], min(pixels.shape[:2]) / SIDE)
    result = pixels.copy()
    found = np.round(low + np.clip(x, 0, 1) * (high - low))
    result.reshape(*pixels.shape[:2], -1)[..., : planes.shape[2]] = np.clip(found, 0, np.iinfo(pixels.dtype).max)
    return result
