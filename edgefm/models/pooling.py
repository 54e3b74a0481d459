"""From the features of an inner node to one vector per image, or to a grid of them.

Not a learned projection: means and shapes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def channels_last(shape: Sequence[int]) -> bool:
    """Whether a four-dimensional shape is `[N, H, W, D]`: its second and third sizes agree and the last two do not.

    Models here see squares, so the two sizes of the image plane agree. Where both readings are possible it is `[N, D, H, W]`.
    """
    return len(shape) == 4 and shape[1] == shape[2] != shape[3]


def poolable(shape: Sequence[int]) -> bool:
    """Whether `pool` takes features of that shape (batch first) and gives more than one number."""
    return len(shape) in (2, 3, 4) and all(size != 0 for size in shape[1:]) and max(shape[1:]) > 1


def pool(features: torch.Tensor, prefix: int = 0) -> torch.Tensor:
    """The mean over image plane or tokens, `[N, D]`.

    Args:
        features: `[N, D]`, tokens `[N, T, D]`, or a plane `[N, D, H, W]` or `[N, H, W, D]`.
        prefix: class and register tokens at the front of T, left out of the mean.
    """
    if features.ndim == 4:
        return features.mean(dim=(1, 2) if channels_last(features.shape) else (2, 3))
    if features.ndim == 3:
        return features[:, prefix:].mean(dim=1)
    return features


def grid(features: torch.Tensor, prefix: int | None = 0) -> torch.Tensor | None:
    """The features as a plane `[N, D, H, W]`; None where they lie on none.

    Args:
        features: tokens `[N, T, D]`, row by row, or a plane `[N, D, H, W]` or `[N, H, W, D]`.
        prefix: class and register tokens at the front of T; None counts all that is more than a square as such. The rest must
            be a square number, 4 or more.
    """
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if channels_last(features.shape) else features
    if features.ndim != 3:
        return None
    count = features.shape[1] - (prefix or 0)
    side = isqrt(max(count, 0))
    if side < 2 or (prefix is not None and side * side != count):
        return None
    return features[:, -side * side :].transpose(1, 2).reshape(len(features), -1, side, side)
