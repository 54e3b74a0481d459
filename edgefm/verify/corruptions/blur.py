"""Blur: of the optics, out of focus, of movement across and along the line of sight. Not what adds grains (`noise.py`).

Every function takes x, float32 `[H, W, C]`, 0 to 1, and gives the same; `scale` is the shorter side over 224. Edges are
mirrored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .resample import zoomed

Array = npt.NDArray[Any]


def gaussian_blur(x: Array, random: np.random.Generator, size: int, scale: float) -> Array:
    """A Gaussian of the sigma that belongs to a kernel of `size` pixels: 0.3 ((size - 1) / 2 - 1) + 0.8 (OpenCV, torchvision),
    cut off where that kernel ends."""
    sigma = (0.3 * ((size - 1) / 2 - 1) + 0.8) * scale
    line = _gaussian(sigma, math.ceil(size // 2 * scale))
    return convolved(x, np.outer(line, line))


def defocus_blur(x: Array, random: np.random.Generator, lens: tuple[float, float], scale: float) -> Array:
    """The mean over a disk, whose edge is softened. lens: radius of the disk and sigma of its edge, pixels."""
    radius, edge = (length * scale for length in lens)
    soft = math.ceil(3 * edge)
    reach = math.ceil(radius) + soft
    offset = np.arange(-reach, reach + 1)
    disk = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(offset, offset)), 0, 1)
    line = _gaussian(edge, soft)
    disk = np.apply_along_axis(np.convolve, 0, np.apply_along_axis(np.convolve, 1, disk, line), line)
    return convolved(x, disk / disk.sum())


def motion_blur(x: Array, random: np.random.Generator, trail: tuple[float, float], scale: float) -> Array:
    """A trail to one side, at an angle between -45 and 45 degrees: half a Gaussian. trail: radius (it is twice that long)
    and sigma, pixels."""
    radius, sigma = (length * scale for length in trail)
    angle = math.radians(random.uniform(-45, 45))
    reach = math.ceil(2 * radius)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    for step in np.arange(0, 2 * radius + 1e-9, 0.5):  # each point of the trail is shared by the four pixels around it
        row, column = reach + 1 + step * math.sin(angle), reach + 1 + step * math.cos(angle)
        top, left = math.floor(row), math.floor(column)
        down, right = row - top, column - left
        weight = math.exp(-(step**2) / (2 * sigma**2))
        kernel[top : top + 2, left : left + 2] += weight * np.outer([1 - down, down], [1 - right, right])
    return convolved(x, kernel / kernel.sum())


def zoom_blur(x: Array, random: np.random.Generator, zoom: tuple[float, float], scale: float) -> Array:
    """The mean of the image itself and of its middle enlarged by 1, 1 + step, … below `end`. zoom: end and step."""
    end, step = zoom
    factors = 1 + step * np.arange(math.ceil(round((end - 1) / step, 9)))
    total = x.copy()
    for factor in factors:
        total += zoomed(x, float(factor))
    return np.asarray(total / (len(factors) + 1))


def convolved(x: Array, kernel: Array) -> Array:
    """x `[H, W, C]` with a kernel of odd sides whose sum is 1, by the Fourier transform; float32."""
    up, left = (side // 2 for side in kernel.shape)
    padded = np.pad(x, ((up, up), (left, left), (0, 0)), mode="symmetric")
    size = tuple(_smooth(side) for side in padded.shape[:2])
    turned = np.fft.rfft2(kernel, size)[..., None]
    found = np.fft.irfft2(np.fft.rfft2(padded, size, axes=(0, 1)) * turned, size, axes=(0, 1))
    return np.asarray(found[2 * up : 2 * up + x.shape[0], 2 * left : 2 * left + x.shape[1]], np.float32)


def _smooth(side: int) -> int:
    """The next number without prime factors above 5: the transform of others takes several times as long."""
    while True:
        rest = side
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return side
        side += 1


def _gaussian(sigma: float, reach: int) -> Array:
    """Weights at -reach to reach, float64 `[2 reach + 1]`, their sum 1."""
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * max(sigma, 1e-6) ** 2))
    return np.asarray(weights / weights.sum())
