"""How well masks fit: Dice, and the normalised surface distance in millimetres. Arrays in, numbers out.

Not part of the verb `verify` yet: no bundle has a segmentation task; `docs/researcher.md` shows how to call it. Intervals over
patients are `intervals.py`'s, of a number per case.

    Dice = 2 |A and B| / (|A| + |B|)                                                        (Dice 1945)
    NSD  = (|{a in dA: d(a, dB) <= tau}| + |{b in dB: d(b, dA) <= tau}|) / (|dA| + |dB|)    (Nikolov et al. 2018, 2021)

dA, the boundary, are the pixels of A with a neighbour (sharing a side, or a face in 3D) outside A; beyond the edge of the image
is outside. d is the distance of pixel centres, in millimetres, to the nearest of the other boundary. Each boundary pixel
counts once, as in MONAI and Metrics Reloaded (Maier-Hein et al. 2024); Nikolov et al. weigh surface elements by their area.

Where both masks are empty there is nothing to find and nothing was found: NaN, left out of means. Where one is, both are 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MissingExtra
from .metrics import mean_of_known

Array = npt.NDArray[Any]


def segmentation_metrics(
    found: Array, truth: Array, classes: Mapping[str, int], *, spacing: Sequence[float], tolerance: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Both metrics of one image or volume, for each class and their mean.

    Args:
        found, truth: whole numbers, `[H, W]` or `[D, H, W]`: the class of each pixel.
        classes: name to number, normally without the background; one may be missing from an image.
        spacing: mm between pixel centres, along each axis. tolerance: name to tau, mm: what two readers differ by.

    Returns:
        `dice` and `surface_distance`, each: name to 0 to 1, or NaN, and `mean`, of those that are not NaN.

    Raises:
        InputError: shapes, spacing or tolerance that do not fit. MissingExtra: scipy is not installed.
    """
    _masks(found, truth)
    if "mean" in classes or set(tolerance) != set(classes):
        raise InputError(
            f"classes {', '.join(classes) or '(none)'} with tolerances for {', '.join(tolerance) or 'none'}",
            expected="a tolerance for each class, and none named mean",
        )
    pairs = {name: (found == number, truth == number) for name, number in classes.items()}
    overlap = {name: dice(*pair) for name, pair in pairs.items()}
    surface = {name: surface_distance(*pair, spacing=spacing, tolerance=tolerance[name]) for name, pair in pairs.items()}
    return {
        "dice": overlap | {"mean": mean_of_known(list(overlap.values()))},
        "surface_distance": surface | {"mean": mean_of_known(list(surface.values()))},
    }


def dice(found: Array, truth: Array) -> float:
    """Dice of two masks, bool `[H, W]` or `[D, H, W]`, 0 to 1; NaN where both are empty."""
    found, truth = _masks(found, truth)
    both, size = np.count_nonzero(found & truth), np.count_nonzero(found) + np.count_nonzero(truth)
    return 2 * both / size if size else math.nan


def surface_distance(found: Array, truth: Array, *, spacing: Sequence[float], tolerance: float) -> float:
    """Normalised surface distance of two masks, bool `[H, W]` or `[D, H, W]`, 0 to 1: the share of both boundaries that lies
    within `tolerance`, mm, of the other; NaN where both are empty, 0 where one is.

    Args:
        spacing: mm between pixel centres, along each axis.
    """
    found, truth = _masks(found, truth)
    if len(spacing) != found.ndim or not all(0 < step < math.inf for step in spacing):
        raise InputError(f"spacing {list(spacing)}", expected=f"{found.ndim} lengths above 0 mm, one per axis")
    if not 0 <= tolerance < math.inf:
        raise InputError(f"a tolerance of {tolerance} mm", expected="0 or more")
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingExtra("scipy", "verify", "the normalised surface distance") from error

    either = found | truth
    if not either.any():
        return math.nan
    if not found.any() or not truth.any():
        return 0.0
    # all that counts, and not more: distances between the two boundaries do not leave the box around them
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(either))
    one, other = (mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (found, truth))
    near: Any = 0
    for mine, theirs in ((one, other), (other, one)):
        distance = ndimage.distance_transform_edt(~theirs, sampling=spacing)
        near += np.count_nonzero(distance[mine] <= tolerance)
    return float(near / (np.count_nonzero(one) + np.count_nonzero(other)))


def _masks(found: Array, truth: Array) -> tuple[Array, Array]:
    """Where they are not 0, bool."""
    if found.shape != truth.shape or found.ndim not in (2, 3):
        raise InputError(f"masks of shapes {list(found.shape)} and {list(truth.shape)}", expected="the same, of 2 or 3 axes")
    if found.dtype.kind not in "biu" or truth.dtype.kind not in "biu":
        raise InputError(f"masks of {found.dtype} and {truth.dtype}", expected="bool or whole numbers")
    return found != 0, truth != 0
