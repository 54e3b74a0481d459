"""Curves, operating points and MCC equal scikit-learn's with many ties, and say NaN where images define none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.curves import average_precision, mcc, roc, sensitivity_at, specificity_at, thinned
from edgefm.verify.metrics import auc

LEVELS = pytest.mark.parametrize("levels", [1, 2, 3, 10, 1000])


def drawn(levels: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of so many levels that know a little, and the truth; both classes occur, one of them perhaps once."""
    random, draws = np.random.default_rng(levels), []
    for positives in (1, 2, 20, 55, 56):
        truth = random.permutation(np.arange(57) < positives)
        scores = np.floor(levels * (random.random(57) + truth) / 2) / levels
        draws.append((scores, truth))
    return draws


def operating_points(scores: np.ndarray, truth: np.ndarray) -> list[tuple[float, float]]:
    """Sensitivity and specificity of every threshold, one by one."""
    found = []
    for threshold in [*np.unique(scores), math.inf]:
        yes = scores >= threshold
        found.append((float(yes[truth].mean()), float((~yes[~truth]).mean())))
    return found


@LEVELS
def test_average_precision_equals_scikit_learn(levels: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for scores, truth in drawn(levels):
        assert average_precision(scores, truth) == pytest.approx(sklearn.average_precision_score(truth, scores), abs=1e-12)


def test_average_precision_by_hand() -> None:
    # From the top: a positive; a positive and a negative in one; a negative. 1/2 of the recall at 1/1, 1/2 at 2/3.
    scores, truth = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0])
    assert average_precision(scores, truth) == pytest.approx(1 / 2 + 1 / 3)
    assert average_precision(np.zeros(4), truth) == 0.5


def test_one_class_one_image_and_none() -> None:
    scores = np.array([0.2, 0.7, 0.7])
    none, some = np.zeros(3, bool), np.ones(3, bool)
    assert math.isnan(average_precision(scores, none))
    assert average_precision(scores, some) == 1.0
    for truth in (none, some, none[:1], some[:1], none[:0]):
        assert math.isnan(sensitivity_at(scores[: len(truth)], truth, 0.9))
        assert math.isnan(specificity_at(scores[: len(truth)], truth, 0.9))
        assert math.isnan(mcc(truth, ~truth))
        assert [len(axis) for axis in roc(scores[: len(truth)], truth)] == [0, 0]
    assert math.isnan(average_precision(scores[:0], none[:0]))
    assert average_precision(scores[:1], some[:1]) == 1.0


@LEVELS
def test_operating_points_are_the_best_of_all_thresholds(levels: int) -> None:
    for scores, truth in drawn(levels):
        points = operating_points(scores, truth)
        for kept in (0.0, 0.1, 0.5, 0.7, 0.9, 0.95, 1.0, *(point[1] for point in points), *(point[0] for point in points)):
            assert sensitivity_at(scores, truth, kept) == max(one for one, other in points if other >= kept)
            assert specificity_at(scores, truth, kept) == max(other for one, other in points if one >= kept)


@LEVELS
def test_operating_points_lie_on_the_curve_of_scikit_learn(levels: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for scores, truth in drawn(levels):
        rate, sensitivity, _ = sklearn.roc_curve(truth, scores, drop_intermediate=False)
        for kept in (0.33, 0.62, 0.88):  # not a share of 57 images or fewer, so that no rounding decides
            assert sensitivity_at(scores, truth, kept) == pytest.approx(sensitivity[1 - rate > kept].max())
            assert specificity_at(scores, truth, kept) == pytest.approx((1 - rate)[sensitivity > kept].max())


def test_images_of_one_score_are_not_parted() -> None:
    scores, truth = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1, 1, 1, 0, 0])
    assert sensitivity_at(scores, truth, 0.5) == 1.0
    assert sensitivity_at(scores, truth, 0.51) == pytest.approx(1 / 3)
    assert specificity_at(scores, truth, 1 / 3) == 1.0
    assert specificity_at(scores, truth, 0.34) == 0.5
    assert sensitivity_at(np.zeros(5), truth, 0.01) == 0.0
    assert specificity_at(np.zeros(5), truth, 0.01) == 0.0


def test_a_share_that_is_met_exactly_counts_as_kept() -> None:
    truth = np.repeat([True, False], [1, 10])
    for wrong in range(11):
        scores = np.concatenate([[0.5], np.repeat([0.9, 0.1], [wrong, 10 - wrong])])
        assert sensitivity_at(scores, truth, (10 - wrong) / 10) == 1.0
        assert specificity_at(scores, truth, 1.0) == (10 - wrong) / 10
    assert sensitivity_at(np.repeat([0.5, 0.9, 0.1], [1, 3, 7]), truth, 0.7) == 1.0


@LEVELS
def test_the_curve_is_that_of_scikit_learn_with_its_corners_only(levels: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for scores, truth in drawn(levels):
        x, y = roc(scores, truth)
        rate, sensitivity, _ = sklearn.roc_curve(truth, scores, drop_intermediate=False)
        theirs = set(zip(rate.tolist(), sensitivity.tolist()))
        assert set(zip(x.tolist(), y.tolist())) <= theirs
        for point in theirs:
            assert min(from_line(point, *ends) for ends in zip(zip(x, y), zip(x[1:], y[1:]))) < 1e-12
        turns = np.abs(np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(y)[:-1] * np.diff(x)[1:])
        assert (turns > 1e-12).all()
        assert ((x[0], y[0]), (x[-1], y[-1])) == ((0, 0), (1, 1))
        assert np.trapezoid(y, x) == pytest.approx(auc(scores, truth), abs=1e-12)


def from_line(point: tuple[float, float], start: tuple[float, float], end: tuple[float, float]) -> float:
    """How much longer the way from start to end is by the point."""
    return math.dist(start, point) + math.dist(point, end) - math.dist(start, end)


def test_equal_scores_are_the_diagonal_and_steps_of_unequal_length_on_one_line_are_one() -> None:
    assert [axis.tolist() for axis in roc(np.full(4, 0.3), np.array([0, 1, 1, 0]))] == [[0, 1], [0, 1]]
    scores = np.repeat([0.9, 0.5, 0.1], [2, 4, 6])  # 1, 2 and 3 of each class: three steps of slope 1
    truth = np.concatenate([np.arange(2 * n) < n for n in (1, 2, 3)])
    assert [axis.tolist() for axis in roc(scores, truth)] == [[0, 1], [0, 1]]
    assert [axis.tolist() for axis in roc(np.array([3, 2, 1, 0]), np.array([1, 1, 0, 0]))] == [[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_mcc_equals_scikit_learn(classes: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(classes)
    for right in (0.0, 0.3, 0.8, 1.0):
        truth = random.integers(0, classes, 83)
        decided = np.where(random.random(83) < right, truth, random.integers(0, classes, 83))
        assert mcc(truth, decided) == pytest.approx(sklearn.matthews_corrcoef(truth, decided), abs=1e-12)


def test_mcc_by_hand_and_at_its_ends() -> None:
    # TP 3, FN 1, FP 2, TN 4: (12 - 2) / sqrt(5 4 6 5).
    truth = np.repeat([1, 1, 0, 0], [3, 1, 2, 4])
    decided = np.repeat([1, 0, 1, 0], [3, 1, 2, 4])
    assert mcc(truth, decided) == pytest.approx(10 / math.sqrt(600))
    assert mcc(truth == 1, decided == 1) == mcc(truth, decided)
    assert mcc(truth, truth) == 1.0
    assert mcc(truth, 1 - truth) == -1.0
    thirds = np.arange(333) % 3
    assert mcc(thirds, thirds) == 1.0
    assert mcc(thirds, (thirds + 1) % 3) == pytest.approx(-0.5)


def test_mcc_of_decisions_that_are_all_the_same_is_0_and_of_one_true_class_nan() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mcc(np.array([0, 1, 1]), np.array([1, 1, 1])) == 0.0
        assert mcc(np.array([0, 1, 2]), np.array([7, 7, 7])) == 0.0
        assert math.isnan(mcc(np.array([1, 1, 1]), np.array([0, 1, 1])))


def test_mcc_of_a_million_images_does_not_overflow() -> None:
    truth = np.arange(1_000_000) % 2
    assert mcc(truth, truth) == 1.0
    assert mcc(truth, np.where(np.arange(1_000_000) < 500_000, truth, 1 - truth)) == 0.0


def test_what_does_not_fit_is_refused() -> None:
    truth = np.array([True, False, True])
    for measure in (average_precision, roc):
        with pytest.raises(InputError, match="2 of 3 scores are not finite"):
            measure(np.array([0, np.nan, np.inf]), truth)
        with pytest.raises(InputError, match=r"\[3\] beside these scores"):
            measure(np.zeros(3), truth[:2])
        with pytest.raises(InputError, match="neither 0 nor 1"):
            measure(np.zeros(3), np.array([0, 1, np.nan]))
    for kept in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="expected 0 to 1"):
            sensitivity_at(np.zeros(3), truth, kept)
        with pytest.raises(InputError, match="expected 0 to 1"):
            specificity_at(np.zeros(3), truth, kept)
    with pytest.raises(InputError, match=r"\[N\] both"):
        mcc(np.zeros((3, 2)), np.zeros((3, 2)))


def test_a_thinned_curve_keeps_its_ends_and_what_it_leaves_out_is_near() -> None:
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, 20_000)
    whole = roc(random.normal(size=20_000) + truth, truth)
    kept = thinned(whole, 200)
    assert 100 < len(kept.sensitivity) <= 200 < len(whole.sensitivity)
    for axis, before in zip(kept, whole):
        assert (axis[0], axis[-1]) == (0, 1)
        assert set(axis) <= set(before)
    for corner in zip(*whole):
        assert min(max(abs(x - corner[0]), abs(y - corner[1])) for x, y in zip(*kept)) <= 2 / 199
    assert thinned(kept, 200) is kept
    assert [len(axis) for axis in thinned(roc(np.ones(3), np.ones(3)))] == [0, 0]
