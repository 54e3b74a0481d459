"""Random views of training images, each a pure function of (seed, image, view).

Not the choice of the view (that is epoch mod views, in `loop.py`), and nothing here looks at a size or a normalisation: a
teacher and a student that prepare the same image differently get the same view of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..spec.preprocess import Preprocess
from ..spec.recipe import AugmentRecipe
from .randomness import uniform


@dataclass(frozen=True)
class Views:
    """What happens to each image of a batch.

    Attributes:
        affine: float32 `[N, 2, 3]`, from output to input coordinates, both -1 to 1 over the image; None leaves all in place.
        gain, offset: float32 `[N]`, x becomes (x - 0.5) gain + 0.5 + offset in the windowed range, clipped to [0, 1].
    """

    affine: torch.Tensor | None
    gain: torch.Tensor
    offset: torch.Tensor


def draw_views(seed: int, images: np.ndarray, view: int, recipe: AugmentRecipe) -> Views:
    """The parameters of one view of some images.

    Args:
        images: int64 `[N]`, positions in the data set. view: number of the view, from 0.
    """
    chance = uniform(seed, images[:, None], view, np.arange(7))
    flip = np.where(chance[:, 0] < recipe.flip, -1.0, 1.0)
    angle, zoom, right, down, bright, contrast = (2 * chance[:, k] - 1 for k in range(1, 7))
    angle = np.deg2rad(recipe.rotate) * angle
    shrink = (1 + recipe.zoom) ** -zoom
    cosine, sine = shrink * np.cos(angle), shrink * np.sin(angle)
    rows = [[cosine * flip, -sine, 2 * recipe.shift * right], [sine * flip, cosine, 2 * recipe.shift * down]]
    affine = np.array(rows, np.float32).transpose(2, 0, 1).copy()  # [2, 3, N] to [N, 2, 3]
    moves = recipe.flip or recipe.rotate or recipe.zoom or recipe.shift
    return Views(
        torch.from_numpy(affine) if moves else None,
        torch.from_numpy((1 + recipe.contrast * contrast).astype(np.float32)),
        torch.from_numpy((recipe.brightness * bright).astype(np.float32)),
    )


def apply_views(x: torch.Tensor, views: Views) -> torch.Tensor:
    """The views of a batch.

    Args:
        x: float32 `[N, C, S, S]`, windowed, 0 to 1, not yet normalised. Outside, the image is mirrored at its border.

    Returns:
        the same shape, dtype, range and device.
    """
    if views.affine is not None:
        grid = functional.affine_grid(views.affine.to(x.device), list(x.shape), align_corners=False)
        x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gain, offset = (value.to(x.device)[:, None, None, None] for value in (views.gain, views.offset))
    return ((x - 0.5) * gain + 0.5 + offset).clamp_(0, 1)


def normalise(x: torch.Tensor, spec: Preprocess) -> torch.Tensor:
    """(x - mean) / std per channel: the last step of `spec/preprocess.py`. `x`: float32 `[N, C, S, S]`, 0 to 1."""
    mean, std = (torch.tensor(value, device=x.device)[:, None, None] for value in (spec.mean, spec.std))
    return (x - mean) / std
