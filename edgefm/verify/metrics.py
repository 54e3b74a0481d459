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
from ..spec.task import Task, TaskKind
from .scores import Scores, areas, ranks

Array = npt.NDArray[Any]

# What `max_drop` applies to. The others are printed beside them: sensitivity and specificity each hang on few images, F1 on the
# share of positives, and Brier says nothing about decisions.
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
        `auc`, `sensitivity`, `specificity`, `balanced_accuracy`, `f1`, each 0 to 1, and `brier`, of which 0 is best; NaN where
        the images do not define one. binary: of the positive class, `labels[1]`. multiclass: means over the classes that
        occur, each against the rest (macro AUC; the mean recall is both `sensitivity` and `balanced_accuracy`). multilabel:
        means over the labels that define the metric.

        f1 (van Rijsbergen 1979): 2 TP / (2 TP + FP + FN). brier (Brier 1950): the mean over the images of (p - y)^2 of the
        positive class for binary (the sum over both classes would be twice that), of the sum over all classes for multiclass
        (0 to 2), of the mean over the labels for multilabel.

    Raises:
        InputError: shapes that do not fit, or a probability that is not finite.
    """
    return Scores(probabilities, labels, task).metrics(np.arange(len(probabilities)))


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
    metrics = {"mean_cosine": mean_of_known([float(value) for value in (_unit(embedding) * _unit(reference)).sum(axis=1)])}
    if labels is not None:
        metrics["knn_accuracy"] = knn_accuracy(embedding, labels)
    return metrics


def auc(scores: Array, truth: Array) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    The Mann-Whitney statistic (Hanley and McNeil 1982). NaN without a positive or without a negative.

    Args:
        scores: float `[N]`. truth: bool `[N]`.
    """
    return float(areas(*ranks(np.asarray(scores)[:, None], np.asarray(truth, dtype=bool)[:, None]))[0])


def knn_accuracy(embedding: Array, labels: Array) -> float:
    """Share of the images that their nearest neighbours get right (`knn_right`), 0 to 1; NaN with fewer than two images."""
    return _share(knn_right(embedding, labels)) if len(embedding) > 1 else math.nan


def knn_right(embedding: Array, labels: Array, neighbours: int = NEIGHBOURS, groups: Array | None = None) -> Array:
    """Whether each image's class is the one its nearest other images vote for, each vote weighing its cosine.

    Args:
        embedding: float `[N, D]`, at least two images. labels: int `[N]` or 0/1 `[N, K]` (a distinct row is a class).
        groups: `[N]`, who belongs together, at least two: images of the same patient are no neighbours. None: each for itself.

    Returns:
        bool `[N]`.
    """
    labels, count = classes_of(labels), len(embedding)
    member = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    unit, classes = _unit(embedding), np.unique(labels)
    right = np.zeros(count, bool)
    for start in range(0, count, 256):
        cosine = unit[start : start + 256] @ unit.T
        cosine[member[start : start + 256, None] == member] = -np.inf
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, : min(neighbours, count - 1)]
        weight = np.take_along_axis(cosine, nearest, axis=1)
        weight[np.isinf(weight)] = 0.0  # fewer others than neighbours
        votes = np.stack([(weight * (labels[nearest] == value)).sum(axis=1) for value in classes], axis=1)
        right[start : start + 256] = classes[votes.argmax(axis=1)] == labels[start : start + 256]
    return right


def classes_of(labels: Array) -> Array:
    """One whole number per image, `[N]`: the labels themselves, or which of the distinct rows of 0/1 `[N, K]`."""
    return labels if labels.ndim == 1 else np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


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


def _share(flags: Array) -> float:
    return float(np.mean(flags)) if flags.size else math.nan


def mean_of_known(values: list[float]) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _unit(vectors: Array) -> Array:
    vectors = np.asarray(vectors, dtype=np.float64)
    length: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float64).tiny))
