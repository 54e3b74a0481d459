"""An array at another size: by areas, by repetition, or a part of it enlarged. Not the model's own resize (`runtime/`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]


def boxed(x: Array, height: int, width: int) -> Array:
    """The mean of what each new pixel covers; x float32 `[H, W, C]`."""
    return x if x.shape[:2] == (height, width) else _resized(x, height, width, Image.Resampling.BOX, None)


def spread(x: Array, height: int, width: int) -> Array:
    """Each pixel of x `[H, W, C]` repeated over the pixels it covers of a larger image."""
    if x.shape[:2] == (height, width):
        return x
    rows = (np.arange(height) * x.shape[0]) // height
    columns = (np.arange(width) * x.shape[1]) // width
    return np.asarray(x[rows[:, None], columns])


def zoomed(x: Array, factor: float) -> Array:
    """The middle 1 / factor of each side, enlarged to the size of x, float32 `[H, W, C]`; bilinear. factor: at least 1."""
    height, width = x.shape[:2]
    top, left = (height - height / factor) / 2, (width - width / factor) / 2
    return _resized(x, height, width, Image.Resampling.BILINEAR, (left, top, width - left, height - top))


def _resized(x: Array, height: int, width: int, how: Image.Resampling, box: tuple[float, float, float, float] | None) -> Array:
    channels = [Image.fromarray(np.ascontiguousarray(x[..., k])) for k in range(x.shape[2])]
    return np.stack([np.asarray(channel.resize((width, height), how, box)) for channel in channels], axis=2)
