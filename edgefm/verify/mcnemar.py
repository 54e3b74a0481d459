"""Whether two models are right equally often on the same images (McNemar 1947), from the images that only one gets right.

Not how much worse one is: that is a difference with an interval (`intervals.py`). A large p value is no proof of equality; with
few images that only one model gets right, no difference can show.

Each image counts for itself. Patients with several images break that: a patient who is hard for one model is so in all of his
images, and p comes out too small. Take one image per patient, or judge by the bootstrap over patients.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]


class McNemar(NamedTuple):
    """Who is right on how many images, and how probable so uneven a split would be if both were right equally often.

    Attributes:
        both, only_one, only_other, neither: numbers of images.
        exact: two-sided exact conditional p value, 0 to 1; NaN without images. It never rejects more often than it says, and
            mostly much less often.
        mid_p: the mid-p value, 0 to 1, NaN likewise: half the weight of the split that was seen. Nearer to what it says, and
            what Fagerland et al. (2013) recommend.
    """

    both: int
    only_one: int
    only_other: int
    neither: int
    exact: float
    mid_p: float


def mcnemar(right_one: Array, right_other: Array) -> McNemar:
    """Compare two models by the images they decide rightly.

    Args:
        right_one, right_other: bool `[N]`, such as `decided == truth`.

    Raises:
        InputError: other types than bool, or shapes that do not fit.
    """
    one, other = np.asarray(right_one), np.asarray(right_other)
    if one.dtype != bool or other.dtype != bool:
        raise InputError(f"values of type {one.dtype} and {other.dtype}", expected="bool, whether each decision is right")
    if one.ndim != 1 or one.shape != other.shape:
        raise InputError(f"shapes {list(one.shape)} and {list(other.shape)}", expected="[N] both, of the same images")
    neither, only_other, only_one, both = np.bincount(2 * one + other, minlength=4).tolist()
    exact, mid_p = p_values(only_one, only_other) if len(one) else (math.nan, math.nan)
    return McNemar(both, only_one, only_other, neither, exact, mid_p)


def p_values(only_one: int, only_other: int) -> tuple[float, float]:
    """The exact and the mid-p value of a split of n = `only_one + only_other` images (Fagerland, Lydersen and Laake 2013).

    If either model is as likely to be the one that is right, `only_one` is binomial(n, 1/2). The exact value is the
    probability of a split at least as uneven as this one, on either side; the mid-p value counts only half of that of a split
    as uneven: 2 P(X < k) + P(X = k), with k the smaller number, and 1 - P(X = k) / 2 where both are the same.

    Args:
        only_one, only_other: 0 or above. Without any image that only one gets right both values are 1: nothing speaks for a
            difference, though the mid-p formula would say 1/2.

    Returns:
        `exact`, `mid_p`: to 8 digits for a million images of each; 0.0 below about 1e-308.
    """
    k, n = min(only_one, only_other), only_one + only_other
    if not n:
        return 1.0, 1.0
    # Logarithms, because 2^-n and the binomial coefficient leave the range of a float at about n = 1000.
    point = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    if 2 * k == n:
        return 1.0, 1 - point / 2
    i = np.arange(k, 0, -1)
    below = point * float(np.cumprod(i / (n - i + 1)).sum())  # P(X = i - 1) is i / (n - i + 1) of P(X = i)
    return min(1.0, 2 * (below + point)), 2 * below + point
