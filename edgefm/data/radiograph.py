"""One generated chest radiograph: lungs, heart, ribs, texture, noise, perhaps an opacity. Pure in (seed, index).

Not anatomy: nothing learnt from it holds for a patient. numpy only, about a millisecond at 128 pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

VERSION = 1
Array = np.ndarray


class Scanner(NamedTuple):
    """How a scanner turns exposure into pixels: bits 8 or 16, gamma, noise (standard deviation in units of the range),
    and the share of the range it uses."""

    bits: int
    gamma: float
    noise: float
    low: float
    high: float


SCANNERS = {
    "axis": Scanner(8, 1.0, 0.020, 0.02, 0.98),
    "birch": Scanner(16, 0.8, 0.012, 0.10, 0.90),
    "cedar": Scanner(8, 1.25, 0.035, 0.00, 0.85),
}


def contrast_of(opacity: bool, normal: float) -> float:
    """The contrast of an image's densest spot, in units of the range; the two classes overlap (d' = 2.9, AUC 0.98)."""
    return max(0.0, 0.02 + 0.03 * normal) if not opacity else max(0.0, 0.107 + 0.03 * normal)


def radiograph(
    seed: int,
    index: int,
    height: int,
    width: int,
    *,
    contrast: float = 0.0,
    scanner: str = "axis",
    anatomy: int | None = None,
) -> Array:
    """Draw one picture.

    Args:
        seed, index: decide everything random. height, width: pixels, any from 1 up.
        contrast: of the opacity, in units of the range; 0 for none.
        scanner: a key of `SCANNERS`.
        anatomy: pictures of one seed and anatomy share the body (a patient); None: the index.

    Returns:
        uint8 or uint16 `[height, width]`, the scanner's bits, full range.
    """
    body = np.random.default_rng([seed, 1, index if anatomy is None else anatomy])
    rng = np.random.default_rng([seed, 2, index])
    machine = SCANNERS[scanner]
    y, x = _axes(height, width)
    x = x * body.uniform(0.9, 1.1) - body.uniform(-0.06, 0.06)
    y = y * body.uniform(0.9, 1.1) - body.uniform(-0.06, 0.06)
    image = _chest(body, x, y)
    lungs = image[1]
    picture = image[0] + 0.05 * _cloud(rng, height, width, 6) + 0.025 * _cloud(rng, height, width, 24)
    side = -1.0 if rng.random() < 0.5 else 1.0
    cx, cy = side * rng.uniform(0.3, 0.6), rng.uniform(-0.45, 0.4)
    radius = rng.uniform(0.12, 0.22)
    spot = np.exp(-(((x - cx) / radius) ** 2)) * np.exp(-(((y - cy) / (radius * rng.uniform(0.8, 1.3))) ** 2))
    picture = picture + contrast * spot * (0.4 + 0.6 * lungs)
    picture = np.clip(picture, 0.0, 1.0) ** np.float32(machine.gamma)
    picture = picture + machine.noise * rng.standard_normal(picture.shape, dtype=np.float32)
    picture = machine.low + (machine.high - machine.low) * np.clip(picture, 0.0, 1.0)
    top = 2**machine.bits - 1
    return np.rint(picture * top).astype(np.uint8 if machine.bits == 8 else np.uint16)


@lru_cache(maxsize=8)
def _axes(height: int, width: int) -> tuple[Array, Array]:
    """Pixel centres in -1 .. 1, as a column and a row, float32."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    return y[:, None], x[None, :]


def _chest(body: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array]:
    lungs = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for side in (-1.0, 1.0):
        a, b = body.uniform(0.3, 0.36), body.uniform(0.62, 0.72)
        inside = 1 - ((x - side * 0.45 - 0.08 * side * y) / a) ** 2 - ((y + 0.02) / b) ** 2
        lungs += np.clip(4 * inside, 0.0, 1.0)
    torso = np.clip(6 * (1 - (x / 0.98) ** 4 - (y / 1.6) ** 4), 0.0, 1.0)
    hx = body.uniform(0.1, 0.18)
    heart = np.clip(3 * (1 - ((x - hx) / body.uniform(0.3, 0.4)) ** 2 - ((y - 0.3) / 0.36) ** 2), 0.0, 1.0)
    spine = np.exp(-((x / 0.1) ** 2))
    ribs = np.cos(body.uniform(17, 21) * (y + 0.35 * np.abs(x) ** 1.5) + body.uniform(0, 6.28)) ** 2
    picture = torso * (0.62 - 0.38 * lungs) + 0.07 * torso * ribs * (0.3 + 0.7 * lungs) + 0.22 * heart + 0.08 * spine * torso
    return picture.astype(np.float32), lungs


def _cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> Array:
    """Smooth noise of standard deviation about 1 and `cells` cells a side, float32 `[height, width]`."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return _stretch(height, cells) @ coarse @ _stretch(width, cells).T


@lru_cache(maxsize=16)
def _stretch(length: int, cells: int) -> Array:
    """Linear interpolation from `cells` to `length` points, float32 `[length, cells]`."""
    at = np.linspace(0, cells - 1, length, dtype=np.float32)[:, None]
    return np.clip(1 - np.abs(at - np.arange(cells, dtype=np.float32)), 0.0, 1.0)
