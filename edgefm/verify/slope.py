"""How much too sure a model is, in one number: its calibration slope b, 1 where probabilities are as sure as they should be.

Not the bins of a reliability diagram (`calibration.py`), and no fit that a bundle keeps (`quantize --calibrate`).

b maximises the likelihood of the truth under softmax(b log p), or of several labels under sigmoid(b logit p_k) of each: it is
1 / T of temperature scaling (Guo et al. 2017, section 4.2), the slope of Cox 1958 without an intercept. Below 1 the model is
too sure (0.5: its logits are twice too large), above 1 not sure enough (Van Calster et al. 2019). How far it is off is |ln b|,
the same for twice too sure and half as sure as it should be.

Unlike an ECE, b has hardly any bias on few images, and two models on the same images share most of their chance: so its
difference can be gated. What it cannot see is a wrong shape or a shift of all probabilities; the Brier score does.

It lives on errors. Where every image is right, surer is always better, and no finite b is the best one (Albert and Anderson
1984); of one or two errors it is those images' word. So with fewer than three b is not a number. Where answers are no better
than chance it is at its lower bound: known to be as low as that, and a model so far off fails.

With few errors ln b is skewed, and its percentile interval, which reports show, lies too high. The gate takes another one, of
how much further from 1 it is than the reference's: `slope_loss.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..spec.task import Task
from .scores import truth_of

Array = npt.NDArray[np.float64]
LEAST, MOST = 0.05, 20.0  # of b
ERRORS = 3  # without which there is none
TINY = 1e-12
STEPS, CLOSE = 50, 1e-5  # of b: what Newton's step leaves is its square


class Slope:
    """Logits, or what stands for them, beside the truth.

    Args:
        logits: `[N, K]`, of a multiclass or binary task up to a constant per image. labels: as `Scores` takes them.
    """

    def __init__(self, logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], task: Task) -> None:
        z, truth = np.asarray(logits, np.float64), truth_of(labels, task)
        self._margins = self._logs = self._true = None
        if task.kind == "multiclass":
            self._logs, self._true = z, z[truth]
        else:
            if task.kind == "binary":
                z, truth = z[:, 1:] - z[:, :1], truth[:, 1:]
            self._margins = np.where(truth, z, -z)
        self._start = 1.0
        self._start = self.of(np.arange(len(z)))  # draws are near: two or three steps lead there

    @classmethod
    def of_probabilities(cls, probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], task: Task) -> Slope:
        """The same from probabilities, float64 `[N, K]`, 0 to 1."""
        p = np.clip(np.asarray(probabilities, np.float64), TINY, 1.0)
        if task.kind == "multiclass":
            return cls(np.log(p), labels, task)
        logit = np.log(p) - np.log(np.clip(1 - p, TINY, 1.0))
        if task.kind == "binary":
            logit[:, 0] = 0.0  # the logit of the positive label is the margin between the two
        return cls(logit, labels, task)

    def of(self, rows: npt.NDArray[np.integer]) -> float:
        """b of these images, 0.05 to 20: int64 `[M]`, positions, with repetition. NaN with fewer than 3 errors."""
        if self._errors(rows) < ERRORS:
            return math.nan
        b, derivatives = self._start if np.isfinite(self._start) else 1.0, self._derivatives(rows)
        for _ in range(STEPS):
            slope, curve = derivatives(b)
            # Newton's step, at most a factor of 2: the likelihood is concave, but flat far out
            step = min(max(b + slope / max(curve, TINY), b / 2), 2 * b)
            step = min(max(step, LEAST), MOST)
            if abs(step - b) <= CLOSE * b:
                return step
            b = step
        return b

    def _errors(self, rows: npt.NDArray[np.integer]) -> int:
        """How often what is wrong is as probable as what is right, or more."""
        if self._margins is not None:
            return int((self._margins[rows] <= 0).sum())
        assert self._logs is not None
        assert self._true is not None
        return int(((self._logs[rows] >= self._true[rows, None]).sum(axis=1) > 1).sum())

    def _derivatives(self, rows: npt.NDArray[np.integer]) -> Callable[[float], tuple[float, float]]:
        """Of b: the first derivative of the mean log likelihood of these images, and the second with its sign turned."""
        if self._margins is not None:
            u = self._margins[rows].reshape(-1)

            def of_margins(b: float) -> tuple[float, float]:
                wrong = _sigmoid(-b * u)
                each = u * wrong
                return float(each.mean()), float((u * each) @ (1 - wrong)) / len(u)

            return of_margins
        assert self._logs is not None
        assert self._true is not None
        logs, true = self._logs[rows], self._true[rows]

        def of_classes(b: float) -> tuple[float, float]:
            q = b * logs
            q = np.exp(q - q.max(axis=1, keepdims=True))
            q /= q.sum(axis=1, keepdims=True)
            mean = (q * logs).sum(axis=1)
            return float((true - mean).mean()), float(((q * logs**2).sum(axis=1) - mean**2).mean())

        return of_classes


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))
