"""Whether a probability means what it says: of the images given 0.8, do 80 of 100 hold?

Not the fitting of a temperature or a threshold, not the gate's limit, and not the drawing of the diagram.

All three numbers here compare, bin by bin, the mean probability with the share that came true. Two ways to make the B bins:

- equal width: bin b holds (b - 1) / B < p <= b / B, the first one 0 too (Guo et al. 2017, section 2);
- equal mass (`adaptive`; Nixon et al. 2019): about N / B images in each, by rank. Images of one probability are never
  parted: all of them go to the bin in which the middle of their ranks lies, and where that is the border of two bins, to the
  upper one. So neither the order of the images nor a change of the probabilities that keeps their ranks moves an image to
  another bin. A probability that many images share makes its bin larger and its neighbours smaller, or empty.

The ECE of few images is above 0 by chance: it adds up distances, and no bin's share is exactly right. A perfectly calibrated
model (logits of spread 2, 15 bins) shows about 0.03 on 1,200 images, and the draws of a bootstrap, which add their own chance,
about 0.05. So the percentile interval of an ECE lies too high, and that of its difference to a better calibrated model too low:
it can show a difference, but is no upper limit of one. The difference of two Brier scores has no such bias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..runtime.decide import decisions
from ..spec.task import Task
from .scores import checked, ranks, truth_of

Array = npt.NDArray[Any]
BINS = 15
Z95 = 1.959963984540054  # the standard normal lies within +-Z95 in 95 % of cases


class Reliability(NamedTuple):
    """The points of a reliability diagram (Murphy and Winkler 1977), each `[C, B]`: C columns of `forecasts`, B bins.

    Attributes:
        confidence: mean probability of the bin's images, 0 to 1; NaN in an empty bin, as are the three below.
        right: the share of them that came true, 0 to 1.
        low, high: the 95 % interval of that share (`wilson`).
        images: int64, how many are in the bin.
    """

    confidence: Array
    right: Array
    low: Array
    high: Array
    images: Array


class BrierParts(NamedTuple):
    """What a Brier score is made of: reliability - resolution + uncertainty + within_variance - within_covariance.

    Attributes:
        reliability: 0 or above, 0 is best: how far the bins' mean probabilities are from the shares that came true.
        resolution: 0 or above, high is best: how far those shares are from the share of all images.
        uncertainty: of the truth alone, whatever the model: o (1 - o) with o the share of all images.
        within_variance: 0 or above, how much the probabilities differ inside the bins.
        within_covariance: twice how much they vary together with the truth there; below 0 where they vary against it.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_variance: float
    within_covariance: float

    @property
    def generalized_resolution(self) -> float:
        """The resolution with what the bins hide (Stephenson et al. 2008): Brier = reliability - this + uncertainty."""
        return self.resolution - self.within_variance + self.within_covariance

    @property
    def brier(self) -> float:
        return self.reliability - self.generalized_resolution + self.uncertainty


class Forecasts:
    """Probabilities beside what came true, by column, sorted once, so that any draw of the images is a matter of counting.

    A column is one probability per image; a mean over columns is what `ece` and `brier_parts` return.

    Args:
        probabilities: float `[N, C]`, 0 to 1. true: bool `[N, C]`, whether what it was the probability of was the case.
    """

    def __init__(self, probabilities: Array, true: Array) -> None:
        self._ranked, self._first = ranks(probabilities, true)
        self._level = np.empty(self._first[-1])
        self._level[self._ranked >> 1] = probabilities
        self._column = np.repeat(np.arange(len(self._first) - 1), np.diff(self._first))

    def ece(self, rows: Array, *, adaptive: bool = False, bins: int = BINS) -> float:
        """The function `ece`, of these images: int64 `[M]`, positions, with repetition."""
        p, count, true, into = self._levels(rows, adaptive, bins)
        gaps = np.abs(self._sums(true - count * p, into, bins))
        return float(gaps.sum(axis=1).mean() / len(rows)) if len(rows) else float("nan")

    def reliability(self, rows: Array, *, adaptive: bool = False, bins: int = BINS) -> Reliability:
        """The function `reliability`, of these images."""
        p, count, true, into = self._levels(rows, adaptive, bins)
        n, said, came = (self._sums(weight, into, bins) for weight in (count, count * p, true))
        filled = np.where(n > 0, n, np.nan)
        return Reliability(said / filled, came / filled, *wilson(came, n), n.astype(np.int64))

    def brier_parts(self, rows: Array, *, bins: int = BINS) -> BrierParts:
        """The function `brier_parts`, of these images, as a mean over the columns."""
        if not len(rows):
            return BrierParts(*[float("nan")] * 5)
        p, count, true, into = self._levels(rows, False, bins)
        points = self.reliability(rows, bins=bins)
        p_k, o_k = points.confidence.reshape(-1)[into], points.right.reshape(-1)[into]
        o = (self._sums(true, into, bins).sum(axis=1) / len(rows))[into // bins]
        parts = (
            count * (p_k - o_k) ** 2,
            count * (o_k - o) ** 2,
            count * o * (1 - o),
            count * (p - p_k) ** 2,
            2 * (true - count * o_k) * (p - p_k),
        )
        return BrierParts(*(float(part.sum() / (len(rows) * len(points.images))) for part in parts))

    def _levels(self, rows: Array, adaptive: bool, bins: int) -> tuple[Array, Array, Array, Array]:
        """The distinct probabilities of these images, column by column: p, how many images, how many came true, which bin.

        The bins of column k are `k * bins` and those after it.
        """
        false, true = np.bincount(self._ranked[rows].reshape(-1), minlength=2 * len(self._level)).reshape(-1, 2).T
        count = false + true
        here = np.flatnonzero(count)
        p, count, true, column = self._level[here], count[here], true[here], self._column[here]
        if adaptive:
            below = np.cumsum(count) - count - len(rows) * column
            into = (2 * below + count) * bins // (2 * len(rows))  # in whole numbers, so that no border is a matter of rounding
        else:
            into = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p)
        return p, count, true, into + bins * column

    def _sums(self, weight: Array, into: Array, bins: int) -> Array:
        """The sum of the weights in each bin, float64 `[C, B]`."""
        columns = len(self._first) - 1
        return np.bincount(into, weight, minlength=columns * bins).reshape(columns, bins)


def forecasts(probabilities: Array, labels: Array, task: Task) -> Forecasts:
    """What a task's calibration is about, ready for a bootstrap.

    Args:
        probabilities: `[N, K]`, 0 to 1, in the order of `task.labels`.
        labels: int `[N]`, class index, for binary and multiclass; 0 or 1 `[N, K]` for multilabel.

    Returns:
        binary: one column, the probability of the positive class, `labels[1]`. multiclass: one column, the confidence, which
        is the probability of the class answered, and whether the answer was right. multilabel: a column per label.

    Raises:
        InputError: shapes that do not fit, or a probability that is not a finite number from 0 to 1.
    """
    probabilities, true, answer = _by_column(probabilities, labels, task)
    if task.kind == "multiclass":
        chosen = answer[:, None]
        probabilities, true = (np.take_along_axis(each, chosen, axis=1) for each in (probabilities, true))
    return Forecasts(probabilities, true)


def ece(probabilities: Array, labels: Array, task: Task, *, adaptive: bool = False, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, section 2): sum over the bins of n_b / N |o_b - p_b|.

    n_b of the N images are in bin b, p_b is their mean probability and o_b the share that came true.

    Args:
        probabilities, labels: as `forecasts` takes them.
        adaptive: bins of equal mass instead of equal width. Each still weighs n_b / N, which ties may make unequal.
        bins: how many, at least 1.

    Returns:
        0 to 1, 0 is best; NaN without images. binary: of the positive class, not of the class answered. multiclass: of the
        confidence. multilabel: the mean over the labels.

    Raises:
        InputError: as `forecasts`.
    """
    return forecasts(probabilities, labels, task).ece(np.arange(len(probabilities)), adaptive=adaptive, bins=bins)


def reliability(probabilities: Array, labels: Array, task: Task, *, adaptive: bool = False, bins: int = BINS) -> Reliability:
    """The points of a reliability diagram: those whose distances from the diagonal `ece` sums up.

    Args:
        probabilities, labels, adaptive, bins: as `ece` takes them.

    Returns:
        `[C, B]` each; C is the number of labels for multilabel, else 1.

    Raises:
        InputError: as `forecasts`.
    """
    return forecasts(probabilities, labels, task).reliability(np.arange(len(probabilities)), adaptive=adaptive, bins=bins)


def brier_parts(probabilities: Array, labels: Array, task: Task, *, bins: int = BINS) -> BrierParts:
    """The parts of the task's Brier score in bins of equal width (Murphy 1973; Stephenson, Coelho and Jolliffe 2008).

    With p and o (0 or 1) of an image, their means p_k and o_k in its bin, and the mean o over all images, these are means over
    the images of (p_k - o_k)^2, (o_k - o)^2, o (1 - o), (p - p_k)^2 and 2 (p - p_k) (o - o_k), the last two with the image's
    own o. Murphy's three alone are a Brier score only where all probabilities of a bin are equal.

    Args:
        probabilities, labels: as `forecasts` takes them.
        bins: how many, at least 1.

    Returns:
        Parts that add up to `brier` of `metrics.task_metrics`, to rounding; all NaN without images. binary: of the positive
        class. multiclass: the sum over the classes, each against the rest. multilabel: the mean over the labels.

    Raises:
        InputError: as `forecasts`.
    """
    probabilities, true, _ = _by_column(probabilities, labels, task)
    parts = Forecasts(probabilities, true).brier_parts(np.arange(len(probabilities)), bins=bins)
    columns = probabilities.shape[1] if task.kind == "multiclass" else 1
    return BrierParts(*(columns * part for part in parts))


def wilson(right: Array, count: Array) -> tuple[Array, Array]:
    """The 95 % score interval of a share (Wilson 1927), for `right` of `count` independent images; NaN where `count` is 0.

    (x + z^2 / 2 -+ z sqrt(x (n - x) / n + z^2 / 4)) / (n + z^2). Too narrow where several images show one patient.

    Returns:
        float64 low and high, 0 to 1, in the shape of `count`; they hold the share itself and have a width even at 0 and at n.
    """
    n = np.where(count > 0, count, np.nan)
    half = Z95 * np.sqrt(right * (n - right) / n + Z95**2 / 4)
    low, high = ((right + Z95**2 / 2 + side * half) / (n + Z95**2) for side in (-1, 1))
    return np.clip(low, 0, right / n), np.clip(high, right / n, 1)


def _by_column(probabilities: Array, labels: Array, task: Task) -> tuple[Array, Array, Array]:
    """float64 `[N, C]`, bool `[N, C]` and the decisions; C is 1 for binary, else K, each label against the rest."""
    probabilities, labels = checked(probabilities, labels, task)
    answer = np.asarray(decisions(probabilities, task))
    true = truth_of(labels, task)
    if task.kind == "binary":
        probabilities, true = probabilities[:, 1:], true[:, 1:]
    return probabilities, true, answer
