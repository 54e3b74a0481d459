"""Things that lie over an image: stain deposits, bubbles, the black corners of a dermatoscope, letters.

Not noise: what they cover is gone. Shapes are drawn here (MedMNIST-C pastes scanned ink), their numbers and sizes are as there.

Every function takes x, float32 `[H, W, C]`, 0 to 1, and gives the same; `scale` is the shorter side over 224.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Array = npt.NDArray[Any]
BLOT = (8.0, 20.0)  # mean radius of a stain deposit, pixels at 224
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def stain_deposit(x: Array, random: np.random.Generator, count: int, scale: float) -> Array:
    """`count` black blots of uneven outline, with an edge one pixel (at 224) wide."""
    x = x.copy()
    for _ in range(count):
        row, column = random.uniform(0, x.shape[0]), random.uniform(0, x.shape[1])
        radius = random.uniform(*BLOT) * scale
        waves, phases = random.normal(0, 0.12, 4), random.uniform(0, 2 * np.pi, 4)
        view, down, right = _around(x, row, column, 2 * radius + 1)
        angle = np.arctan2(down, right)[..., None]
        outline = radius * np.maximum(0.3, 1 + (waves * np.cos(angle * np.arange(2, 6) + phases)).sum(axis=2))
        view *= 1 - np.clip((outline - np.hypot(down, right)) / scale + 0.5, 0, 1)[..., None].astype(np.float32)
    return x


def bubble(x: Array, random: np.random.Generator, bubbles: tuple[int, int], scale: float) -> Array:
    """White bubbles, each let through 61 % of what is below, its rim of two pixels (at 224) 49 %. bubbles: largest radius in
    pixels (the smallest is 3) and largest number (the smallest is 7)."""
    largest, most = bubbles
    cover = np.zeros((*x.shape[:2], 1), np.float32)
    for _ in range(int(random.integers(7, most + 1))):
        row, column = random.uniform(0, x.shape[0]), random.uniform(0, x.shape[1])
        radius, rim = random.uniform(3, largest) * scale, 2 * scale
        view, down, right = _around(cover, row, column, radius + rim + 1)
        distance = np.hypot(down, right)[..., None]
        own = np.where(distance <= radius, 100 / 255, np.where(distance <= radius + rim, 130 / 255, 0))
        np.maximum(view, own, out=view, casting="same_kind")
    return np.asarray(x + cover * (1 - x))


def black_corner(x: Array, random: np.random.Generator, multiple: float, scale: float) -> Array:
    """Black outside a circle around the middle whose radius is `multiple` times half the shorter side."""
    height, width = x.shape[:2]
    down = np.arange(height)[:, None] - (height - 1) / 2
    right = np.arange(width) - (width - 1) / 2
    inside = np.hypot(down, right) <= multiple * min(height, width) / 2
    return np.asarray(x * inside[..., None])


def characters(x: Array, random: np.random.Generator, text: tuple[int, int, float], scale: float) -> Array:
    """Words of random letters, each of one random colour, at random places. text: number of words, their largest number of
    letters (the smallest is 3), and the height of a line, pixels."""
    words, most, size = text
    font = ImageFont.load_default_imagefont()
    for _ in range(words):
        word = "".join(random.choice(list(LETTERS), int(random.integers(3, most + 1))))
        left, top, right, bottom = (int(side) for side in font.getbbox(word))
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text((-left, -top), word, fill=255, font=font)
        height = max(1, round(size * scale))
        mask = mask.resize((max(1, round(mask.width * height / mask.height)), height), Image.Resampling.BILINEAR)
        colour = random.random(x.shape[2], np.float32)
        row = int(random.integers(0, max(1, x.shape[0] - mask.height)))
        column = int(random.integers(0, max(1, x.shape[1] - mask.width)))
        x = x.copy()
        view = x[row : row + mask.height, column : column + mask.width]
        ink = (np.asarray(mask, np.float32) / 255)[: view.shape[0], : view.shape[1], None]
        view += ink * (colour - view)
    return x


def _around(x: Array, row: float, column: float, reach: float) -> tuple[Array, Array, Array]:
    """The part of x within `reach` of a place, to be written into, and each pixel's distance from it, downwards and right."""
    top, left = max(0, int(row - reach)), max(0, int(column - reach))
    view = x[top : int(row + reach) + 1, left : int(column + reach) + 1]
    down, right = np.mgrid[: view.shape[0], : view.shape[1]]
    return view, down + top + 0.5 - row, right + left + 0.5 - column
