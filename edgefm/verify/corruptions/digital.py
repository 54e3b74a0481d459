"""What storing does to an image: JPEG, and too few pixels. Not the noise of the sensor (`noise.py`).

Every function takes x, float32 `[H, W, C]`, 0 to 1, and gives the same.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import ImageError
from .resample import boxed, spread

Array = npt.NDArray[Any]
LONGEST_JPEG = 65_500  # libjpeg's limit


def jpeg_compression(x: Array, random: np.random.Generator, quality: int, scale: float) -> Array:
    """Through baseline JPEG of `quality`, 1 to 95, colour at half resolution: also 16-bit images, which become 8-bit.

    Raises:
        ImageError: a side too long for JPEG.
    """
    if max(x.shape) > LONGEST_JPEG:
        raise ImageError(f"the image is {x.shape[0]} x {x.shape[1]} pixels", expected=f"at most {LONGEST_JPEG} a side for JPEG")
    levels = np.round(255 * x).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if x.shape[2] == 1 else levels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file, formats=["JPEG"]) as image:
        return (np.asarray(image, np.float32) / 255).reshape(x.shape)


def pixelate(x: Array, random: np.random.Generator, share: float, scale: float) -> Array:
    """The image in large pixels: each side has `share` of its pixels, of an image above 224 on its shorter side `share` of
    what it would have at 224."""
    share /= max(1.0, scale)
    height, width = (max(1, int(side * share)) for side in x.shape[:2])
    return spread(boxed(x, height, width), *x.shape[:2])
