"""Beside the task's metrics: the precision-recall area, Matthews' correlation, and sensitivity and specificity at fixed values
of the other, on any draw of the images.

Not the formulas (`curves.py`) and not the metrics that are gated (`metrics.py`). A fixed sensitivity or specificity chooses its
threshold on these very images; what the bundle's own threshold does is in the metrics.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..spec.task import Task
from .curves import average_precision, mcc, sensitivity_at, specificity_at
from .metrics import mean_of_known
from .scores import truth_of

Array = npt.NDArray[Any]
FIXED = (0.9, 0.95)


class Operating:
    """Answers beside the truth.

    Args:
        probabilities: `[N, K]`. decided: int `[N]`, or bool `[N, K]` for multilabel. labels: as `Scores` takes them.
    """

    def __init__(self, probabilities: Array, decided: Array, labels: Array, task: Task) -> None:
        self.kind = task.kind
        self.truth = truth_of(labels, task)
        self.scores, self.decided, self.labels = probabilities, decided, labels
        if task.kind == "binary":
            self.truth, self.scores = self.truth[:, 1:], self.scores[:, 1:]

    def metrics(self, rows: Array) -> dict[str, float]:
        """Of these images: int64 `[M]`, positions, with repetition.

        `auprc`: the average precision, of several labels the mean over those that occur. `mcc`: of the decisions, of several
        labels the mean over those that the images define. binary also `sensitivity_at_0.9_specificity` and the like, for each
        of `FIXED` and both ways round. NaN where the images define none.
        """
        scores, truth = self.scores[rows], self.truth[rows]
        columns = range(truth.shape[1])
        found = {"auprc": mean_of_known([average_precision(scores[:, k], truth[:, k]) for k in columns])}
        if self.kind == "multilabel":
            found["mcc"] = mean_of_known([mcc(truth[:, k], self.decided[rows, k]) for k in columns])
        else:
            found["mcc"] = mcc(self.labels[rows], self.decided[rows])
        if self.kind == "binary":
            for fixed in FIXED:
                found[f"sensitivity_at_{fixed:g}_specificity"] = sensitivity_at(scores[:, 0], truth[:, 0], fixed)
                found[f"specificity_at_{fixed:g}_sensitivity"] = specificity_at(scores[:, 0], truth[:, 0], fixed)
        return found
