"""Two models' areas under the ROC curve on the same images, and whether they differ by more than chance.

Not the bootstrap (`intervals.py`), which is what to use where one patient has several images: here every image counts for
itself, and several of one patient make errors too small. What this adds is the error of an area without any drawing, and a
p value.

The areas are taken to be normal, which they are not where they are near 1 or where one class has few images. Of two models of
areas 0.983 and 0.961 (simulated, normal scores that correlate by 0.64) the interval holds the true difference in 78 of 100
cases with 5 positives and 50 negatives, in 87 with 20 and 200, in 93 with 50 and 500; almost all the others make the loss of
the worse model too small.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .curves import checked

Array = npt.NDArray[Any]
LEVEL = 0.95


class DeLong(NamedTuple):
    """Two areas and their difference.

    Attributes:
        auc_one, auc_other: 0 to 1, as `metrics.auc`; NaN without a positive or without a negative, and so is all else.
        difference: `auc_one - auc_other`; with the reference as the other, the metric less the reference's.
        error_one, error_other, error: standard errors of these three, 0 or above; NaN with fewer than two positives or two
            negatives.
        low, high: the 95 % interval of the difference, not cut at -1 or 1.
        p: two-sided, of both areas being the same for the population, 0 to 1.

    An error of 0 means that no image differs from another of its class, which is not certainty. Two models that order each
    positive and negative alike, as identical ones and two that separate them perfectly do, have the difference 0, the interval
    0 to 0 and p = 1. Where the difference is not 0, as between one that separates perfectly and one that says the same of all
    images, nothing tells how far it would move: `low`, `high` and `p` are NaN.
    """

    auc_one: float
    auc_other: float
    difference: float
    error_one: float
    error_other: float
    error: float
    low: float
    high: float
    p: float


def delong(scores_one: Array, scores_other: Array, truth: Array) -> DeLong:
    """Compare the areas of two models on the same images (DeLong, DeLong and Clarke-Pearson 1988).

    With m positives X and n negatives Y, and psi(X, Y) = 1, 1/2 or 0 where X scores above, as, or below Y, the structural
    components of an area are V10(X_i) = sum_j psi(X_i, Y_j) / n and V01(Y_j) = sum_i psi(X_i, Y_j) / m. The area is the mean
    of either, its variance S10 / m + S01 / n, with S10 and S01 their sample variances. The variance of the difference of two
    areas is the same of the differences of their components.

    Args:
        scores_one, scores_other: float `[N]`, of any scale: only their order counts. truth: bool or 0 and 1 `[N]`.

    Raises:
        InputError: shapes that do not fit, a score that is not finite, or a truth that is neither 0 nor 1.
    """
    (one, truth), (other, _) = checked(scores_one, truth), checked(scores_other, truth)
    if truth.all() or not truth.any():
        return DeLong(*[math.nan] * 9)
    won_one, won_other = _won(one, truth), _won(other, truth)
    auc_one, error_one = _area(won_one, truth)
    auc_other, error_other = _area(won_other, truth)
    difference, error = _area(won_one - won_other, truth)
    low, high, p = _judged(difference, error)
    return DeLong(auc_one, auc_other, difference, error_one, error_other, error, low, high, p)


def _won(scores: Array, truth: Array) -> Array:
    """2 n V10 of each positive and 2 m V01 of each negative, int64 `[N]`, so that nothing is rounded.

    Sun and Xu (2014) take n V10 as a midrank among all images less the midrank among the positives. That is the negatives
    below plus half of those that tie, which two searches in the sorted negatives give; of V01 likewise. O(N log N).
    """
    won = np.empty(len(scores), np.int64)
    for mine, sign in ((truth, 1), (~truth, -1)):
        rivals, own = np.sort(sign * scores[~mine]), sign * scores[mine]
        won[mine] = np.searchsorted(rivals, own, "left") + np.searchsorted(rivals, own, "right")
    return won


def _area(won: Array, truth: Array) -> tuple[float, float]:
    """The area, or the difference of two, and its standard error."""
    of_positives, of_negatives = won[truth], won[~truth]
    m, n = len(of_positives), len(of_negatives)
    area = float(of_positives.sum() / (2 * m * n))
    if m < 2 or n < 2:
        return area, math.nan
    s10, s01 = of_positives.var(ddof=1) / (2 * n) ** 2, of_negatives.var(ddof=1) / (2 * m) ** 2
    return area, math.sqrt(s10 / m + s01 / n)


def _judged(difference: float, error: float) -> tuple[float, float, float]:
    """`low`, `high` and `p` of a difference with this standard error, as `DeLong` describes them."""
    if error == 0 and difference:
        return math.nan, math.nan, math.nan
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    # 2 Phi(-|z|), by erfc, which keeps its digits where Phi would round to 0.
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0
    return difference - reach, difference + reach, p
