"""What every test of preprocessing runs over: specs, sizes, generated pixels, and Pillow's float resize as the judge."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgefm.runtime.preprocess import corner, resized
from edgefm.spec.preprocess import Preprocess

SPECS = {
    "plain": Preprocess(),
    "crop and window": Preprocess(resize_to=256, window16=(1000.0, 50000.5)),
    "squash, bilinear": Preprocess(resize="squash", filter="bilinear", window16=(-100.0, 40000.0)),
    "grey model, odd size": Preprocess(channels=1, size=37, resize_to=38, mean=(0.5,), std=(0.25,), window16=(3.5, 70000.0)),
}
SIZES = [(224, 224), (223, 225), (100, 150), (1, 1), (1, 7), (300, 2)]
LARGE = [(8, 3000), (2544, 3056)]
CHANNELS = [None, 1, 3, 4]
DTYPES = [np.uint8, np.uint16]

FLOAT_TOLERANCE = 2e-5  # of the prepared tensor, so in units of the data set's std; the contract allows 2e-4


def picture(size: tuple[int, int], channels: int | None, dtype: type[np.unsignedinteger], seed: int = 0) -> np.ndarray:
    """Noise over the whole range with saturated patches: every clip is hit."""
    rng = np.random.default_rng(seed)
    top = int(np.iinfo(dtype).max)
    shape = size if channels is None else (*size, channels)
    pixels = rng.integers(0, top, shape, dtype=dtype, endpoint=True)
    pixels[: size[0] // 4] = 0
    pixels[:, : size[1] // 5] = top
    return pixels


def by_pillow(pixels: np.ndarray, spec: Preprocess) -> np.ndarray:
    """The spec, step by step, with Pillow's resize of 32-bit float images."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)[:, :, :3]
    low, high = spec.window16 if pixels.dtype == np.uint16 else (0.0, 255.0)
    x = np.clip((pixels.astype(np.float64) - low) / (high - low), 0.0, 1.0).astype(np.float32)
    if spec.channels == 1 and x.shape[2] == 3:
        x = (x @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None]
    tall, wide = resized(spec, *x.shape[:2])
    kind = Image.Resampling.BICUBIC if spec.filter == "bicubic" else Image.Resampling.BILINEAR
    planes = [Image.fromarray(np.ascontiguousarray(x[:, :, c])).resize((wide, tall), kind) for c in range(x.shape[2])]
    top, left = corner(tall, spec.size), corner(wide, spec.size)
    x = np.stack([np.asarray(plane)[top : top + spec.size, left : left + spec.size] for plane in planes])
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    return (np.clip(x, 0.0, 1.0) - mean) / std
