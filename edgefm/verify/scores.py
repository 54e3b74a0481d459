"""Answers beside the truth, sorted once, so that the metrics of any draw of the images are a matter of counting.

Not the choice of metrics for a gate (`metrics.py`), and not the drawing (`intervals.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..runtime.decide import decisions
from ..spec.task import Task

Array = npt.NDArray[Any]


class Scores:
    """Probabilities and labels of N images, by column: a column is a label (of a binary task only the positive one).

    Args:
        probabilities: `[N, K]`, 0 to 1, in the order of `task.labels`.
        labels: int `[N]`, class index, for binary and multiclass; 0 or 1 `[N, K]` for multilabel.

    Raises:
        InputError: shapes that do not fit, or a probability that is not finite.
    """

    def __init__(self, probabilities: Array, labels: Array, task: Task) -> None:
        probabilities, labels = checked(probabilities, labels, task)
        decided = np.asarray(decisions(probabilities, task))
        classes = np.arange(len(task.labels))
        multilabel = task.kind == "multilabel"
        truth = truth_of(labels, task)
        answer = decided.astype(bool) if multilabel else decided[:, None] == classes
        error = (probabilities - truth) ** 2
        if task.kind == "binary":
            probabilities, truth, answer, error = (each[:, 1:] for each in (probabilities, truth, answer, error))
        self.kind = task.kind
        self.labels = task.labels[1:] if task.kind == "binary" else task.labels
        self._error = error
        self._brier = error.mean(axis=1) if multilabel else error.sum(axis=1)
        self._outcome = 2 * truth + answer + 4 * np.arange(truth.shape[1])
        self._ranked, self._first = ranks(probabilities, truth)

    def by_label(self, rows: Array) -> dict[str, Array]:
        """The metrics of each column, float64 `[C]`: of its label against the rest.

        `auc`, `sensitivity`, `specificity`, `f1`, `brier`, NaN where the images do not define one; without a positive image
        that is all but specificity and brier, which is the mean of (p - y)^2.

        Args:
            rows: int64 `[M]`, positions of images, with repetition.
        """
        columns = len(self.labels)
        counts = np.bincount(self._outcome[rows].reshape(-1), minlength=4 * columns).reshape(columns, 4).astype(np.float64)
        right_no, wrong_yes, wrong_no, right_yes = counts.T
        positives = right_yes + wrong_no
        f1 = _ratio(2 * right_yes, 2 * right_yes + wrong_yes + wrong_no)
        return {
            "auc": areas(self._ranked[rows], self._first),
            "sensitivity": _ratio(right_yes, positives),
            "specificity": _ratio(right_no, right_no + wrong_yes),
            "f1": np.where(positives > 0, f1, np.nan),
            "brier": _ratio(self._error[rows].sum(axis=0), np.full(columns, float(len(rows)))),
        }

    def metrics(self, rows: Array) -> dict[str, float]:
        """The task's metrics of these images, as `metrics.task_metrics` describes them."""
        each = self.by_label(rows)
        if self.kind == "multiclass":
            occurs = ~np.isnan(each["sensitivity"])
            each = {name: values[occurs] for name, values in each.items()}
            balanced = each["sensitivity"]
        else:
            balanced = (each["sensitivity"] + each["specificity"]) / 2
        means = {name: _mean(each[name]) for name in ("auc", "sensitivity", "specificity")}
        brier = float(self._brier[rows].mean()) if len(rows) else np.nan
        return means | {"balanced_accuracy": _mean(balanced), "f1": _mean(each["f1"]), "brier": brier}


def ranks(scores: Array, truth: Array) -> tuple[Array, Array]:
    """What `areas` counts: the rank of each score among its column's, together with its truth, as one whole number.

    Args:
        scores: float `[N, C]`. truth: bool `[N, C]`.

    Returns:
        int64 `[N, C]`: 2 r + truth; equal scores of a column have one rank r, and its ranks follow those of the column before.
        int64 `[C + 1]`: the first rank of each column, and the number of all ranks.
    """
    rank, first = np.empty(scores.shape, np.int64), np.zeros(scores.shape[1] + 1, np.int64)
    for k in range(scores.shape[1]):
        levels, rank[:, k] = np.unique(scores[:, k], return_inverse=True)
        rank[:, k] += first[k]
        first[k + 1] = first[k] + len(levels)
    return 2 * rank + truth, first


def areas(ranked: Array, first: Array) -> Array:
    """Area under the ROC curve of each column: the chance that a positive scores above a negative, ties counting one half.

    The Mann-Whitney statistic (Hanley and McNeil 1982): a positive scores above the negatives of lower rank.

    Args:
        ranked, first: as `ranks` gives them; of `ranked` any M rows.

    Returns:
        float64 `[C]`, NaN without a positive or without a negative.
    """
    no, yes = np.bincount(ranked.reshape(-1), minlength=2 * first[-1]).reshape(-1, 2).T
    below = np.concatenate([[0], np.cumsum(no)])  # negatives of lower rank, and all of the columns before
    won = np.concatenate([[0.0], np.cumsum(yes * (below[:-1] + no / 2))])
    before = below[first]
    negatives = np.diff(before).astype(np.float64)
    positives = len(ranked) - negatives
    return _ratio(np.diff(won[first]) - positives * before[:-1], positives * negatives)


def truth_of(labels: Array, task: Task) -> Array:
    """Which labels hold for each image, bool `[N, K]`; labels as `Scores` takes them."""
    return labels.astype(bool) if task.kind == "multilabel" else np.asarray(labels[:, None] == np.arange(len(task.labels)))


def checked(probabilities: Array, labels: Array, task: Task) -> tuple[Array, Array]:
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if task.kind == "embedding":
        raise InputError("an embedding task has no probabilities", do="use embedding_metrics")
    if probabilities.ndim != 2 or probabilities.shape[1] != len(task.labels):
        raise InputError(f"probabilities of shape {list(probabilities.shape)}", expected=f"[N, {len(task.labels)}]")
    if not np.isfinite(probabilities).all():
        broken = int(np.count_nonzero(~np.isfinite(probabilities).all(axis=1)))
        raise InputError(f"{broken} of {len(probabilities)} answers are not finite numbers", do="check the model's weights")
    wanted = probabilities.shape if task.kind == "multilabel" else probabilities.shape[:1]
    if labels.shape != wanted:
        raise InputError(f"labels of shape {list(labels.shape)}", expected=f"{list(wanted)} beside these probabilities")
    if labels.size and (labels.min() < 0 or labels.max() >= (2 if task.kind == "multilabel" else len(task.labels))):
        raise InputError(f"labels from {labels.min()} to {labels.max()}", expected=f"the {len(task.labels)} labels of the task")
    return probabilities, labels


def _ratio(above: Array, below: Array) -> Array:
    """`above / below`, NaN where `below` is 0."""
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0))


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
