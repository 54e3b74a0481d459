"""What each way to run the model loses against fp32, with intervals: the paired bootstrap over patients.

Not the gate's rule (`decide.py`), which looks at the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..runtime.decide import decisions, probabilities
from ..spec.task import Task
from ..verify.intervals import Interval, bootstrap_intervals
from ..verify.metrics import knn_right
from ..verify.scores import Scores

Outputs = Mapping[str, np.ndarray]
Measure = Callable[[np.ndarray], dict[str, float]]
LOWER_IS_BETTER = ("brier",)


def drops(
    ways: Mapping[str, Outputs],
    reference: Outputs,
    task: Task,
    labels: np.ndarray | None,
    groups: np.ndarray,
    *,
    seed: int,
) -> dict[str, dict[str, Interval]]:
    """By how much each metric falls from the reference's, and the share of changed decisions, all from the same draws.

    Args:
        ways: name to outputs, as `judge` takes them. reference: the torch model's. labels: as `judge` takes them.
        groups: `[N]`, the patient of each image, or its position where no patients are known.
        seed: of the draws.

    Returns:
        Per way, metric to interval (a positive value is a loss, in the metric's own unit; a cosine falls from 1), and "flips"
        unless the task is an embedding.
    """
    base = _metrics(reference, reference, task, labels)
    measures = {name: _metrics(outputs, reference, task, labels) for name, outputs in ways.items()}
    changed = {} if task.kind == "embedding" else {name: _changed(outputs, reference, task) for name, outputs in ways.items()}

    def everything(rows: np.ndarray) -> dict[tuple[str, str], float]:
        before = base(rows)
        found = {
            (name, metric): before[metric] - value
            for name, measure in measures.items()
            for metric, value in measure(rows).items()
            if metric not in LOWER_IS_BETTER
        }
        return found | {(name, "flips"): float(flags[rows].mean()) for name, flags in changed.items()}

    intervals = bootstrap_intervals(everything, groups, seed=seed)
    return {name: {metric: each for (way, metric), each in intervals.items() if way == name} for name in ways}


def _metrics(outputs: Outputs, reference: Outputs, task: Task, labels: np.ndarray | None) -> Measure:
    """The metrics of `judge`, on any draw of the images."""
    if task.kind != "embedding" and labels is not None:
        return Scores(probabilities(outputs["logits"], task), labels, task).metrics
    cosine = (_unit(outputs["embedding"]) * _unit(reference["embedding"])).sum(axis=1)
    # the neighbours are those among all images: in a draw, a copy of an image would be its own nearest
    right = None if labels is None or len(cosine) < 2 else knn_right(outputs["embedding"], labels)

    def measure(rows: np.ndarray) -> dict[str, float]:
        found = {"mean_cosine": float(cosine[rows].mean())}
        return found if right is None else found | {"knn_accuracy": float(right[rows].mean())}

    return measure


def _changed(outputs: Outputs, reference: Outputs, task: Task) -> np.ndarray:
    """Which images get another decision, bool `[N]`."""
    one, other = (decisions(probabilities(each["logits"], task), task) for each in (outputs, reference))
    return (one != other).reshape(len(one), -1).any(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float64).tiny))
