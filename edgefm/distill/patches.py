"""Which patches of a teacher's grid are compared, and the student's features at those places. Not the comparison: `losses.py`.

Teacher and student see the same field, so a place is the same share of both their grids, however many cells each has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..train.randomness import bits

DRAW = 0x70617463686573  # keeps these numbers apart from those that draw the views


def draw_patches(seed: int, images: np.ndarray, view: int, cells: int, count: int) -> np.ndarray:
    """The cells of the teacher's grid that are kept of each image: a pure function of (seed, image, view).

    Args:
        images: int64 `[N]`, positions in the data set. cells: H W of the grid, row by row.

    Returns:
        int64 `[N, min(count, cells)]`, ascending, no cell twice.
    """
    chance = bits(seed, images[:, None], view, DRAW, np.arange(cells))
    return np.sort(np.argsort(chance, axis=1, kind="stable")[:, :count], axis=1)


def take_patches(grid: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """The features of those cells.

    Args:
        grid: `[N, D, H, W]`. patches: int64 `[N, T]`, from `draw_patches`.

    Returns:
        `[N, T, D]`.
    """
    rows = grid.flatten(2).transpose(1, 2)
    return rows.gather(1, patches[:, :, None].expand(-1, -1, rows.shape[2]))


def resample_patches(grid: torch.Tensor, patches: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A student's features at the centres of cells of the teacher's grid: its own grid resized bilinearly, at those cells only.

    Args:
        grid: `[N, D, h, w]`, float. patches: int64 `[N, T]`. size: (H, W), the teacher's.

    Returns:
        `[N, T, D]`, what `interpolate(grid, size, mode="bilinear", align_corners=False)` has there.
    """
    height, width = size
    down, right = patches // width, patches % width
    x, y = ((2 * cell + 1).to(grid.dtype) / count - 1 for cell, count in ((right, width), (down, height)))  # -1 to 1
    places = torch.stack([x, y], dim=-1)[:, :, None]
    found = functional.grid_sample(grid, places, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, :, 0].transpose(1, 2)
