"""The task's metrics of many draws of the images at once: each image counts as often as it was drawn.

Not the draws (`intervals.weights`), and not other metrics: they are those of `scores.Scores` on the same draws, to the last bit
but that of a mean. One matrix product and one cumulative sum take the place of a thousand counts, which is what subgroups of
subgroups' sizes need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.decide import decisions
from ..spec.task import Task
from .scores import checked, truth_of

Array = npt.NDArray[Any]


class Weighted:
    """Probabilities and labels of N images.

    Args:
        probabilities, labels, task: as `Scores` takes them.

    Raises:
        InputError: shapes that do not fit, or a probability that is not finite.
    """

    def __init__(self, probabilities: Array, labels: Array, task: Task) -> None:
        probabilities, labels = checked(probabilities, labels, task)
        decided, truth = np.asarray(decisions(probabilities, task)), truth_of(labels, task)
        answer = decided.astype(bool) if task.kind == "multilabel" else decided[:, None] == np.arange(len(task.labels))
        error = (probabilities - truth) ** 2
        self.kind = task.kind
        if task.kind == "binary":
            probabilities, truth, answer, error = (each[:, 1:] for each in (probabilities, truth, answer, error))
        self._brier = error.mean(axis=1) if task.kind == "multilabel" else error.sum(axis=1)
        self._counts = np.concatenate([truth & answer, truth, answer & ~truth, ~truth], axis=1).astype(np.float64)
        self._truth = truth
        self._order = np.argsort(probabilities, axis=0, kind="stable")
        ordered = np.take_along_axis(probabilities, self._order, axis=0)
        self._levels = [np.flatnonzero(np.r_[True, column[1:] != column[:-1]][: len(column)]) for column in ordered.T]

    def metrics(self, weights: Array) -> dict[str, Array]:
        """By name as `metrics.task_metrics`, float64 `[D]` each, NaN where a draw does not define one.

        Args:
            weights: float64 `[D, N]`, whole numbers, 0 for an image that is not in the draw.
        """
        right_yes, positives, wrong_yes, negatives = np.split(weights @ self._counts, 4, axis=1)
        sensitivity, specificity = _ratio(right_yes, positives), _ratio(negatives - wrong_yes, negatives)
        f1 = np.where(positives > 0, _ratio(2 * right_yes, right_yes + wrong_yes + positives), np.nan)
        area = np.stack([self._area(weights, column) for column in range(self._truth.shape[1])], axis=1)
        balanced = (sensitivity + specificity) / 2
        if self.kind == "multiclass":
            absent = np.isnan(sensitivity)
            specificity, f1, area = (np.where(absent, np.nan, each) for each in (specificity, f1, area))
            balanced = sensitivity
        return {
            "auc": _mean(area),
            "sensitivity": _mean(sensitivity),
            "specificity": _mean(specificity),
            "balanced_accuracy": _mean(balanced),
            "f1": _mean(f1),
            "brier": share(weights, self._brier),
        }

    def _area(self, weights: Array, column: int) -> Array:
        """As `scores.areas`: of each draw, the positives' weight times that of the negatives below, ties counting one half."""
        order, levels = self._order[:, column], self._levels[column]
        drawn, truth = weights[:, order], self._truth[order, column]
        if not len(order):
            return np.full(len(weights), np.nan)
        yes, no = (np.add.reduceat(np.where(which, drawn, 0.0), levels, axis=1) for which in (truth, ~truth))
        below = np.cumsum(no, axis=1) - no
        return _ratio((yes * (below + no / 2)).sum(axis=1), yes.sum(axis=1) * no.sum(axis=1))


def share(weights: Array, values: Array) -> Array:
    """The weighted mean of values `[N]` in each draw, float64 `[D]`; NaN where a draw has none of these images.

    Args:
        weights: float64 `[D, N]`.
    """
    return _ratio(weights @ np.asarray(values, np.float64), weights.sum(axis=1))


def _ratio(above: Array, below: Array) -> Array:
    """`above / below`, NaN where `below` is 0."""
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0))


def _mean(values: Array) -> Array:
    """Of each row `[D, C]` the mean of what is not NaN, `[D]`."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1))
