"""Tone: brightness, contrast, gamma, saturation. Nothing moves and nothing is lost but what leaves the range.

Every function takes x, float32 `[H, W, C]`, 0 to 1, and gives the same; the caller clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def brightness(x: Array, random: np.random.Generator, factor: float, scale: float) -> Array:
    """factor x."""
    return factor * x


def contrast(x: Array, random: np.random.Generator, factor: float, scale: float) -> Array:
    """m + factor (x - m), m the mean luminance of the image."""
    mean = np.float32((x @ LUMA if x.shape[2] == 3 else x).mean())
    return mean + factor * (x - mean)


def gamma(x: Array, random: np.random.Generator, exponent: float, scale: float) -> Array:
    """x to the power of `exponent`: above 1 darker, below 1 brighter."""
    return np.asarray(np.power(x, np.float32(exponent)))


def saturate(x: Array, random: np.random.Generator, more: float, scale: float) -> Array:
    """The saturation of HSV raised by `more`, at most to 1; hue and value stay. Grey has no hue and stays grey."""
    value = x.max(axis=2, keepdims=True)
    chroma = value - x.min(axis=2, keepdims=True)
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.minimum(saturation + more, 1)
    stretch = np.divide(wanted, saturation, out=np.ones_like(value), where=saturation > 0)
    return np.asarray(value - (value - x) * stretch)
