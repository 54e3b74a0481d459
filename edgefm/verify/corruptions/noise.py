"""Noise: of the sensor, of few photons, of lost pixels, of coherent waves. Not what blurs (`blur.py`).

Every function takes x, float32 `[H, W, C]`, 0 to 1, and gives the same; the caller clips. A grain is one pixel of an image of
224 x 224: larger images get grains of several pixels, for noise of single ones would vanish where the model's input is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .resample import boxed, spread

Array = npt.NDArray[Any]


def gaussian_noise(x: Array, random: np.random.Generator, sigma: float, scale: float) -> Array:
    """x + sigma z, z standard normal for each grain and channel."""
    return x + sigma * _grains(x, random, scale)


def speckle_noise(x: Array, random: np.random.Generator, sigma: float, scale: float) -> Array:
    """x + sigma x z: multiplicative, as of coherent waves."""
    return x + sigma * x * _grains(x, random, scale)


def shot_noise(x: Array, random: np.random.Generator, photons: float, scale: float) -> Array:
    """Poisson(photons x) / photons of each grain: `photons` is what white is counted as."""
    seen = np.clip(boxed(x, *_grid(x, scale)), 0, 1)
    counted = random.poisson(seen * photons) / photons
    return x + spread((counted - seen).astype(np.float32), x.shape[0], x.shape[1])


def impulse_noise(x: Array, random: np.random.Generator, amount: float, scale: float) -> Array:
    """Salt and pepper: a share `amount` of grains, each channel for itself, half of them 1, half 0."""
    height, width = _grid(x, scale)
    drawn = random.random((height, width, x.shape[2]), np.float32)
    drawn = spread(drawn, x.shape[0], x.shape[1])
    return np.where(drawn < amount / 2, np.float32(0), np.where(drawn < amount, np.float32(1), x))


def _grains(x: Array, random: np.random.Generator, scale: float) -> Array:
    height, width = _grid(x, scale)
    return spread(random.standard_normal((height, width, x.shape[2]), np.float32), x.shape[0], x.shape[1])


def _grid(x: Array, scale: float) -> tuple[int, int]:
    """Rows and columns of grains: the pixels, or as many as an image of 224 on its shorter side has."""
    grain = max(1.0, scale)
    return max(1, round(x.shape[0] / grain)), max(1, round(x.shape[1] / grain))
