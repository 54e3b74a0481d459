"""What a model's scores can reach over all thresholds, and the correlation of its decisions with the truth.

Not the area under the ROC curve (`metrics.auc`), not the drawing of a curve, and not the fitting of a threshold: a sensitivity
at a fixed specificity chooses its threshold on the very images it is measured on, so it is the best that these allow, not what
a stored threshold will do on others.

Images of one score are never parted: a threshold decides them all alike, as it will on the device.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]
POINTS = 200  # of a curve in a record
SPECIFICITIES = (0.99, 0.98, 0.95, 0.9, 0.8, 0.5)  # at which it is told in numbers


class Roc(NamedTuple):
    """The corners of a ROC curve, from (0, 0) to (1, 1), float64 `[P]` each; straight lines between them are the curve.

    Attributes:
        false_positive_rate: 1 - specificity, rising from 0 to 1.
        sensitivity: at the same thresholds, rising from 0 to 1.
    """

    false_positive_rate: Array
    sensitivity: Array


def average_precision(scores: Array, truth: Array) -> float:
    """Area under the precision-recall curve as average precision: sum over the thresholds of (R_i - R_(i-1)) P_i.

    R_i and P_i are recall and precision of the images that score at least the i-th highest score. Without the straight lines
    between the points that the trapezoidal rule would draw, which promise more than any threshold gives (Davis and Goadrich
    2006). As scikit-learn computes it.

    Args:
        scores: float `[N]`. truth: bool or 0 and 1 `[N]`.

    Returns:
        0 to 1; scores that say nothing have the share of positives. NaN without a positive; without a negative it is 1,
        whatever the scores.

    Raises:
        InputError: shapes that do not fit, a score that is not finite, or a truth that is neither 0 nor 1.
    """
    yes, no = _at_least(*checked(scores, truth))
    if not yes[-1]:
        return math.nan
    precision = yes[1:] / (yes[1:] + no[1:])
    return float((np.diff(yes) * precision).sum() / yes[-1])


def sensitivity_at(scores: Array, truth: Array, specificity: float) -> float:
    """The best sensitivity of any threshold that keeps at least this specificity.

    Args:
        scores: float `[N]`. truth: bool or 0 and 1 `[N]`. specificity: 0 to 1.

    Returns:
        0 to 1: 0 where only a threshold above all scores keeps it. NaN without a positive or without a negative.

    Raises:
        InputError: as `average_precision`, or a specificity outside 0 to 1.
    """
    return _best(*_at_least(*checked(scores, truth)), specificity, "specificity")


def specificity_at(scores: Array, truth: Array, sensitivity: float) -> float:
    """The best specificity of any threshold that keeps at least this sensitivity.

    Args:
        scores: float `[N]`. truth: bool or 0 and 1 `[N]`. sensitivity: 0 to 1.

    Returns:
        0 to 1: 0 where only a threshold below all negatives keeps it. NaN without a positive or without a negative.

    Raises:
        InputError: as `average_precision`, or a sensitivity outside 0 to 1.
    """
    scores, truth = checked(scores, truth)
    return _best(*_at_least(-scores, ~truth), sensitivity, "sensitivity")  # the same question about the negatives


def roc(scores: Array, truth: Array) -> Roc:
    """The ROC curve without the points that lie on a straight line between their neighbours.

    Args:
        scores: float `[N]`. truth: bool or 0 and 1 `[N]`.

    Returns:
        At least two points; none at all without a positive or without a negative, where there is no curve.

    Raises:
        InputError: as `average_precision`.
    """
    yes, no = _at_least(*checked(scores, truth))
    if not (yes[-1] and no[-1]):
        return Roc(np.empty(0), np.empty(0))
    up, right = np.diff(yes), np.diff(no)
    turns = up[1:] * right[:-1] != up[:-1] * right[1:]  # in whole numbers: no slope is rounded
    corner = np.concatenate([[True], turns, [True]])
    return Roc(no[corner] / no[-1], yes[corner] / yes[-1])


def thinned(curve: Roc, most: int = POINTS) -> Roc:
    """The curve with at most `most` of its corners, at least two: its ends among them.

    The way along both axes together is cut into pieces of 2 / (`most` - 1), and of each the first corner is kept: no corner
    that is left out is further than that from one that is kept.
    """
    if len(curve.sensitivity) <= most:
        return curve
    _, first = np.unique(((curve.false_positive_rate + curve.sensitivity) / 2 * (most - 1)).astype(int), return_index=True)
    return Roc(*(axis[first] for axis in curve))


def mcc(truth: Array, decided: Array) -> float:
    """Matthews' correlation of decisions with the truth (Matthews 1975), of several classes R_K (Gorodkin 2004).

    (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)): of s images c are right, p_k are decided to be and
    t_k truly are of class k. Of two classes it is (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN)).

    Args:
        truth, decided: class of each image, `[N]`, of any one type that sorts.

    Returns:
        -1 to 1; 1 is all right, 0 no better than chance; of more than two classes the least is above -1. Decisions that are
        all the same know nothing: 0, though the formula is 0 / 0. NaN where the truth is one class only.

    Raises:
        InputError: shapes that do not fit.
    """
    truth, decided = np.asarray(truth), np.asarray(decided)
    if truth.ndim != 1 or truth.shape != decided.shape:
        raise InputError(
            f"truth of shape {list(truth.shape)} and decisions of shape {list(decided.shape)}", expected="[N] both"
        )
    classes, index = np.unique(np.concatenate([truth, decided]), return_inverse=True)
    s = len(truth)
    t, p = (np.bincount(half, minlength=len(classes)).tolist() for half in (index[:s], index[s:]))
    right = int(np.count_nonzero(index[:s] == index[s:]))
    of_truth, of_decided = (s * s - sum(k * k for k in count) for count in (t, p))  # Python's integers: they cannot overflow
    if not of_truth:
        return math.nan
    if not of_decided:
        return 0.0
    return float((right * s - sum(a * b for a, b in zip(t, p))) / math.sqrt(of_truth * of_decided))


def checked(scores: Array, truth: Array) -> tuple[Array, Array]:
    """Scores and truth of the same images: float64 `[N]` and bool `[N]`.

    Raises:
        InputError: shapes that do not fit, a score that is not finite, or a truth that is neither 0 nor 1.
    """
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    if scores.ndim != 1:
        raise InputError(f"scores of shape {list(scores.shape)}", expected="[N], one per image")
    if truth.shape != scores.shape:
        raise InputError(f"truth of shape {list(truth.shape)}", expected=f"{list(scores.shape)} beside these scores")
    if broken := int(np.count_nonzero(~np.isfinite(scores))):
        raise InputError(f"{broken} of {len(scores)} scores are not finite numbers", do="check the model's weights")
    if not np.isin(truth, (0, 1)).all():
        raise InputError("truth that is neither 0 nor 1", expected="whether each image is positive")
    return scores, truth.astype(bool)


def _at_least(scores: Array, truth: Array) -> tuple[Array, Array]:
    """How many positives and negatives reach each score that occurs, from the highest down, after a 0: int64 `[L + 1]` each."""
    levels, level = np.unique(-scores, return_inverse=True)
    each = (np.bincount(level[mine], minlength=len(levels)) for mine in (truth, ~truth))
    yes, no = (np.concatenate([[0], np.cumsum(count)]) for count in each)
    return yes, no


def _best(yes: Array, no: Array, kept: float, what: str) -> float:
    """The largest share of `yes` where at least the share `kept` of `no` is not reached."""
    if not 0 <= kept <= 1:
        raise InputError(f"a {what} of {kept}", expected="0 to 1")
    if not (yes[-1] and no[-1]):
        return math.nan
    # A quotient rounds as the literal does: 7 of 10 left out is exactly the 0.7 that was asked for.
    keeps = (no[-1] - no) / no[-1] >= kept
    return float(yes[keeps].max() / yes[-1])
