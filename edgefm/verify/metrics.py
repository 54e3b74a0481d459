"""Metrics of a task: arrays in, numbers out, and the share of decisions that two models make differently.

Not intervals, not calibration, and not the gate's verdict; plain numpy, so that it runs wherever the runtime does.

A metric that the images cannot define (the AUC of a single class, the sensitivity without a positive image) is NaN: never a
crash, and never a number that looks like one. `defined` drops them where a file has no place for NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..runtime.decide import decisions
from ..spec.task import Task, TaskKind

Array = npt.NDArray[Any]

# What `max_drop` applies to. Sensitivity and specificity are printed beside them: each hangs on few images.
GATED: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("auc", "balanced_accuracy"),
    "multiclass": ("auc", "balanced_accuracy"),
    "multilabel": ("auc", "balanced_accuracy"),
    "embedding": ("mean_cosine", "knn_accuracy"),
}
NEIGHBOURS = 5


def task_metrics(probabilities: Array, labels: Array, task: Task) -> dict[str, float]:
    """The metrics of a task with labels, at the task's stored thresholds.

    Args:
        probabilities: `[N, K]`, 0 to 1, in the order of `task.labels`.
        labels: int `[N]`, class index, for binary and multiclass; 0 or 1 `[N, K]` for multilabel.

    Returns:
        `auc`, `sensitivity`, `specificity`, `balanced_accuracy`, each 0 to 1 or NaN where the images do not define it.
        binary: of the positive class, `labels[1]`. multiclass: means over the classes that occur, each against the rest
        (macro AUC; the mean recall is both `sensitivity` and `balanced_accuracy`). multilabel: means over the labels that
        define the metric.

    Raises:
        InputError: shapes that do not fit, or a probability that is not finite.
    """
    probabilities, labels = _checked(probabilities, labels, task)
    decided = decisions(probabilities, task)
    if task.kind == "multilabel":
        truth, answer = labels.astype(bool), np.asarray(decided, dtype=bool)
    else:
        classes = np.arange(len(task.labels))
        truth, answer = labels[:, None] == classes, np.asarray(decided)[:, None] == classes
    columns = [1] if task.kind == "binary" else list(range(len(task.labels)))
    if task.kind == "multiclass":
        columns = [k for k in columns if truth[:, k].any()]
    sensitivity = [_share(answer[truth[:, k], k]) for k in columns]
    specificity = [_share(~answer[~truth[:, k], k]) for k in columns]
    if task.kind == "multiclass":
        balanced = sensitivity
    else:
        balanced = [(a + b) / 2 for a, b in zip(sensitivity, specificity)]
    return {
        "auc": _mean([auc(probabilities[:, k], truth[:, k]) for k in columns]),
        "sensitivity": _mean(sensitivity),
        "specificity": _mean(specificity),
        "balanced_accuracy": _mean(balanced),
    }


def embedding_metrics(embedding: Array, reference: Array, labels: Array | None = None) -> dict[str, float]:
    """How well embeddings keep the reference's directions, and with labels, its neighbourhoods.

    Args:
        embedding, reference: float `[N, D]` of the same images.
        labels: int `[N]` class index, or 0/1 `[N, K]`, of which each distinct row counts as a class; None leaves kNN out.

    Returns:
        `mean_cosine`, -1 to 1: the mean cosine between an embedding and its reference (the gate's 1 - mean cosine is the
        drop from the reference's own 1); with labels `knn_accuracy`, 0 to 1 (see `knn_accuracy`).
    """
    if embedding.shape != reference.shape:
        raise InputError(f"embeddings of shape {list(embedding.shape)}", expected=f"{list(reference.shape)} as the reference")
    metrics = {"mean_cosine": _mean([float(value) for value in (_unit(embedding) * _unit(reference)).sum(axis=1)])}
    if labels is not None:
        metrics["knn_accuracy"] = knn_accuracy(embedding, labels)
    return metrics


def auc(scores: Array, truth: Array) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    The Mann-Whitney statistic on mid-ranks (Hanley and McNeil 1982). NaN without a positive or without a negative.

    Args:
        scores: float `[N]`. truth: bool `[N]`.
    """
    truth = np.asarray(truth, dtype=bool)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, group, size = np.unique(scores, return_inverse=True, return_counts=True)
    midrank = np.cumsum(size) - (size - 1) / 2
    rank_sum = float(midrank[group.reshape(-1)][truth].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def knn_accuracy(embedding: Array, labels: Array, neighbours: int = NEIGHBOURS) -> float:
    """Share of images whose class is the one its nearest other images vote for, each vote weighing its cosine.

    Args:
        embedding: float `[N, D]`. labels: int `[N]` or 0/1 `[N, K]` (a distinct row is a class).

    Returns:
        0 to 1, or NaN with fewer than two images.
    """
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    count = len(embedding)
    if count < 2:
        return math.nan
    unit, classes = _unit(embedding), np.unique(labels)
    right = 0
    for start in range(0, count, 256):
        cosine = unit[start : start + 256] @ unit.T
        rows = np.arange(len(cosine))
        cosine[rows, start + rows] = -np.inf
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, : min(neighbours, count - 1)]
        weight = np.take_along_axis(cosine, nearest, axis=1)
        votes = np.stack([(weight * (labels[nearest] == value)).sum(axis=1) for value in classes], axis=1)
        right += int((classes[votes.argmax(axis=1)] == labels[start : start + 256]).sum())
    return right / count


def flips(one: Array, other: Array) -> float:
    """Share of images that get another decision: `[N]` class indexes, or `[N, K]` label decisions of which any may differ.

    0 to 1; NaN without images. Symmetric.
    """
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        raise InputError(
            f"decisions of shapes {list(one.shape)} and {list(other.shape)}", expected="decisions on the same images"
        )
    differs = one != other
    return _share(differs.any(axis=1) if differs.ndim == 2 else differs)


def defined(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics without those that are NaN."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def _checked(probabilities: Array, labels: Array, task: Task) -> tuple[Array, Array]:
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


def _share(flags: Array) -> float:
    return float(np.mean(flags)) if flags.size else math.nan


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _unit(vectors: Array) -> Array:
    vectors = np.asarray(vectors, dtype=np.float64)
    length: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float64).tiny))
