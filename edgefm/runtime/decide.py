"""Logits to probabilities, probabilities to decisions, by the table in `spec/task.py`.

Not a model and not a metric: pure functions of arrays, the same for the runtime, the gate and the metrics.
"""

from __future__ import annotations

import numpy as np
from msgspec import UNSET

from ..errors import InputError
from ..spec.task import Task


def probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """softmax(z / T), or sigmoid(z / T) for a multilabel task, in float64; no finite logit overflows unless z / T does.

    Args:
        logits: z, any float dtype, `[N, K]`, K = number of labels.
        task: its kind, labels and temperature T.

    Returns:
        float64 `[N, K]`, each in [0, 1]; rows sum to 1 unless the task is multilabel.

    Raises:
        InputError: a logit or a probability is infinite or not a number, another shape, or an embedding task.
    """
    _check(logits, task, "logits")
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
        raise InputError(
            f"the model's logits are not finite ({', '.join(f'{value:g}' for value in logits[row][:8])} in row {row})",
            expected="finite numbers",
            do="do not use this answer; try another variant",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        z = logits.astype(np.float64) / task.temperature
        if task.kind == "multilabel":
            small = np.exp(-np.abs(z))
            return np.where(z >= 0, 1.0, small) / (1.0 + small)
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        found = np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if not np.isfinite(found).all():
        raise InputError(
            f"the temperature {task.temperature:g} makes these logits infinite",
            expected="probabilities that are finite",
            do="do not use this answer; make the bundle with another temperature",
        )
    return found


def decisions(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """What the probabilities decide.

    Args:
        probabilities: `[N, K]` in [0, 1], as `probabilities` returns them.
        task: its kind and thresholds.

    Returns:
        int64 `[N]`, the class (binary, multiclass), or bool `[N, K]`, which labels hold (multilabel).

    Raises:
        InputError: a probability outside [0, 1] or not a number, another shape, or an embedding task.
    """
    _check(probabilities, task, "probabilities")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("a probability is outside 0 to 1 or not a number", expected="what probabilities() returns")
    if task.kind == "multiclass":
        return np.asarray(probabilities.argmax(axis=1), np.int64)
    if task.kind == "binary":
        return (probabilities[:, 1] >= task.thresholds[0]).astype(np.int64)
    return np.asarray(probabilities >= np.array(task.thresholds))


def sets(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """Which labels are in each conformal set: those with 1 - p <= the task's quantile. A set may be empty, or hold them all.

    Args:
        probabilities: `[N, K]` in [0, 1], as `probabilities` returns them.
        task: binary or multiclass, with `conformal`.

    Returns:
        bool `[N, K]`.

    Raises:
        InputError: another shape, or a task without a quantile.
    """
    _check(probabilities, task, "probabilities")
    if task.conformal is UNSET:
        raise InputError("the task has no conformal quantile", do="make the bundle with --set quantize.coverage=0.9")
    return np.asarray(1 - probabilities <= task.conformal.quantile)


def sure(held: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Whether a set says what the decision says: it holds that one label and no other. Else a careful reader abstains.

    A binary decision by a threshold other than one half may contradict a set of one label; that is no answer either.

    Args:
        held: bool `[N, K]`, as `sets` returns it. decided: int64 `[N]`.

    Returns:
        bool `[N]`.
    """
    return np.asarray((held.sum(axis=1) == 1) & held[np.arange(len(decided)), decided])


def _check(values: np.ndarray, task: Task, what: str) -> None:
    if task.kind == "embedding":
        raise InputError(f"an embedding task has no {what}", do="use the embedding")
    if values.ndim != 2 or values.shape[1] != len(task.labels):
        raise InputError(f"the {what} have the shape {list(values.shape)}", expected=f"[N, {len(task.labels)}], one per label")
