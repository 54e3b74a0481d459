"""A linear probe: logistic regression on a model's features, its regularisation chosen on the validation images.

Not the features (`features.py`) and not where the classifier goes (`models/probe.py`).

The features are standardised by mean and standard deviation of the training images, x' = (x - mu) / sigma. For each C of the
grid scikit-learn minimises |w|^2 / 2 + C sum_i a_i loss_i(w x'_i + b), a_i the inverse frequency of the image's class, as in
Kornblith, Shlens and Le 2019 measure how well features transfer. The scaler then goes into the
classifier, w / sigma and b - w mu / sigma, so that it takes the model's own features.

| task | regressions | logits |
|---|---|---|
| binary | one, of decision function s | (-s/2, s/2): softmax gives sigmoid(s), and no class is the zero |
| multiclass | one, multinomial | the decision functions |
| multilabel | one per label, the same C for all | the decision functions |

A label that no training image has, or that all have, teaches nothing: its weights are 0, and its bias says how sure N images
make us, log((n + 1/2) / (N - n + 1/2)) for n of them with it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import MissingExtra
from ..runtime.decide import probabilities
from ..spec.task import Task
from ..train.label_loss import class_weights, label_loss
from ..verify.metrics import defined, task_metrics

GRID = tuple(10.0 ** (half / 2) for half in range(-10, 5))  # C from 1e-5 to 1e2, the strongest regularisation first
STEPS = 1000  # of L-BFGS, at most, for one C
SERIAL = 2**22  # features, images times width, that one thread takes: more threads wait for each other longer than they work
# A feature whose spread is this share of its mean or less is taken as constant. Engines round float32 features to about 1e-6
# of their size: to a thousandth of the spread and more, and parity with the model is held to a thousandth.
NOISE = 1e-3


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        weight: float32 `[K, D]`. bias: float32 `[K]`. Both for features as the model gives them.
        C: the chosen one. trials: metrics on the validation images by C, in the order of the grid.
    """

    weight: np.ndarray
    bias: np.ndarray
    C: float
    trials: list[dict[str, Any]]

    @property
    def chosen(self) -> dict[str, Any]:
        """The metrics of the chosen C."""
        return next(trial for trial in self.trials if trial["C"] == self.C)


def fit_probe(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    task: Task,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Probe:
    """Fit one probe per C and keep the best on `val`.

    The best has the highest macro AUC, then balanced accuracy; where the images define neither, the lowest weighted
    cross-entropy. Of equals the strongest regularisation wins.

    Args:
        train, val: features, float32 `[N, D]`, and labels as `Dataset.labels` holds them; every class of a binary or multiclass
            task occurs in `train`.
        progress: takes how many of the grid are done.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    features, labels = train
    mean, scale = scaler(features)
    scaled = (features - mean) / scale
    targets = _targets(labels, task)
    regressions = [None if target.min() == target.max() else _regression() for target in targets]
    best: tuple[tuple[float, ...], float, np.ndarray, np.ndarray] | None = None
    trials: list[dict[str, Any]] = []
    for number, C in enumerate(GRID):
        with few_threads(features.size):
            settled = [_fit(regression, scaled, target, C) for regression, target in zip(regressions, targets)]
        weight, bias = (np.concatenate([each[part] for each in settled]) for part in (0, 1))
        weight, bias = _folded(*_logits(weight, bias, task), mean, scale)
        metrics, score = _judge(val, weight, bias, task)
        steps = [0 if regression is None else int(regression.n_iter_[0]) for regression in regressions]
        trials.append({"C": C} | metrics | {"steps": max(steps), "converged": max(steps) < STEPS})
        if best is None or score > best[0]:
            best = score, C, weight, bias
        progress(number + 1, len(GRID))
    assert best is not None
    return Probe(best[2], best[3], best[1], trials)


def few_threads(size: int) -> AbstractContextManager[object]:
    """One thread for the products of a regression on `size` features; as many as there are for large ones."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    limited: AbstractContextManager[object] = threadpool_limits(1 if size <= SERIAL else None)
    return limited


def scaler(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of `[N, D]`, float64 `[D]`; infinite where a feature is constant, which makes it 0."""
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    return mean, np.where(spread > NOISE * np.abs(mean), spread, np.inf)


def _targets(labels: np.ndarray, task: Task) -> list[np.ndarray]:
    return [labels] if labels.ndim == 1 else [labels[:, label] for label in range(len(task.labels))]


def _regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise MissingExtra("scikit-learn", "compress", "a linear probe") from error
    # From one C to the next it starts where it stands: the same path every time, and a shorter one.
    return LogisticRegression(class_weight="balanced", max_iter=STEPS, warm_start=True)


def _fit(regression: Any, scaled: np.ndarray, target: np.ndarray, C: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[R, D]` and biases `[R]` of the decision functions; R is 1 for two classes."""
    if regression is None:
        with_it = float(target.sum())
        bias = math.log((with_it + 0.5) / (len(target) - with_it + 0.5))
        return np.zeros((1, scaled.shape[1])), np.array([bias])
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` tells it, per C
        regression.set_params(C=C).fit(scaled, target)
    return regression.coef_.copy(), regression.intercept_.copy()


def _logits(weight: np.ndarray, bias: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """One row per label: a binary task's two logits are -s/2 and s/2."""
    if task.kind != "binary":
        return weight, bias
    return np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])


def _folded(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for features that are not standardised, in float32."""
    weight = weight / scale
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def _judge(
    val: tuple[np.ndarray, np.ndarray], weight: np.ndarray, bias: np.ndarray, task: Task
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Metrics of the classifier as it is saved, and its score, larger is better."""
    features, labels = val
    logits = features @ weight.T + bias
    truth = torch.from_numpy(labels.copy())
    loss = label_loss(torch.from_numpy(logits), truth, class_weights(labels, len(task.labels))).item()
    metrics = task_metrics(probabilities(logits, task), labels, task)
    scores = [metrics[name] for name in ("auc", "balanced_accuracy") if not math.isnan(metrics[name])]
    return {"loss": loss} | defined(metrics), tuple(scores) or (-loss,)
