"""DeLong's errors equal the sums over all pairs and what pROC publishes; where images tell nothing, NaN says so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.delong import DeLong, delong
from edgefm.verify.metrics import auc

# aSAH, 113 patients with aneurysmal subarachnoid haemorrhage (Turck et al. 2010, Intensive Care Medicine 36:107): the protein
# S100B in 0.01 ug/l of the patients with each WFNS grade, 1 to 5, by outcome. The placements of these data are those in pROC's
# own tests (tests/testthat/helper-deLongPlacementsCpp-expected.R).
GOOD = (
    "4 4 4 4 5 5 6 6 7 7 7 7 8 8 8 8 9 9 9 9 10 10 10 10 11 11 13 13 14 14 14 15 16 18 19 48 50",
    "4 7 8 8 9 9 10 10 10 11 11 13 14 15 15 15 16 17 19 43",
    "5 7 33",
    "16 17 28 32 34 38 45 47",
    "24 46 47 50",
)
POOR = (
    "7 8",
    "7 7 9 9 10 10 11 14 25 30 41 58",
    "13",
    "13 16 23 26 27 48 71 96",
    "3 12 22 32 33 35 44 44 49 52 56 70 71 74 77 82 86 207",
)


def asah() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """WFNS grade, S100B, and whether the outcome was poor."""
    rows = [
        (grade, int(level) / 100, poor)
        for poor, outcome in enumerate((GOOD, POOR))
        for grade, levels in enumerate(outcome, start=1)
        for level in levels.split()
    ]
    grade, level, poor = np.array(rows).T
    return grade, level, poor == 1


def by_pairs(one: np.ndarray, other: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both areas and their covariance matrix as the paper writes them, over all m n pairs."""
    v10, v01 = [], []
    for scores in (one, other):
        x, y = scores[truth][:, None], scores[~truth][None, :]
        psi = np.where(x > y, 1.0, np.where(x == y, 0.5, 0.0))
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    return np.mean(v10, axis=1), np.cov(v10) / truth.sum() + np.cov(v01) / (~truth).sum()


def test_the_published_example_of_proc_comes_out_to_its_last_digits() -> None:
    # pROC (Robin et al. 2011), tests/testthat/test-roc.test.R, test-var.R, test-cov.R and the areas of the placements.
    grade, level, poor = asah()
    assert len(poor) == 113
    assert poor.sum() == 41
    found = delong(grade, level, poor)
    assert found.auc_one == pytest.approx(0.823678861788618, rel=1e-13, abs=0)
    assert found.auc_other == pytest.approx(0.731368563685637, rel=1e-13, abs=0)
    assert found.error_one**2 == pytest.approx(0.00146991470882363, rel=1e-12, abs=0)
    assert found.error_other**2 == pytest.approx(0.00266868245717244, rel=1e-12, abs=0)
    assert (found.error_one**2 + found.error_other**2 - found.error**2) / 2 == pytest.approx(
        0.00119615567376754, rel=1e-12, abs=0
    )
    assert found.difference / found.error == pytest.approx(2.20898359144091, rel=1e-12, abs=0)
    assert found.p == pytest.approx(0.0271757822291882, rel=1e-12, abs=0)
    assert found.low == pytest.approx(0.0104061769564846, rel=1e-11, abs=0)
    assert found.high == pytest.approx(0.174214419249478, rel=1e-12, abs=0)


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 1000])
def test_areas_and_errors_equal_the_sums_over_all_pairs_with_any_ties(levels: int) -> None:
    random = np.random.default_rng(levels)
    for positives, negatives in ((2, 2), (2, 31), (40, 2), (23, 34)):
        truth = random.permutation(np.arange(positives + negatives) < positives)
        one = random.integers(0, levels, len(truth)) / levels
        other = np.where(random.random(len(truth)) < 0.5, one, random.integers(0, levels, len(truth)) / levels)
        areas, covariance = by_pairs(one, other, truth)
        found = delong(one, other, truth)
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        assert found.auc_one == pytest.approx(areas[0], abs=1e-14)
        assert found.auc_other == pytest.approx(areas[1], abs=1e-14)
        assert found.difference == pytest.approx(areas[0] - areas[1], abs=1e-14)
        assert found.error_one**2 == pytest.approx(covariance[0, 0], abs=1e-15)
        assert found.error_other**2 == pytest.approx(covariance[1, 1], abs=1e-15)
        assert found.error**2 == pytest.approx(variance, abs=1e-15)
        assert found.auc_one == pytest.approx(auc(one, truth), abs=1e-14)


def test_a_hand_worked_example() -> None:
    # Positives .9 .4, negatives .6 .1: V10 = (1, 1/2), V01 = (1/2, 1), both of variance 1/8, so 1/16 + 1/16 in all.
    truth = np.array([1, 1, 0, 0])
    found = delong(np.array([0.9, 0.4, 0.6, 0.1]), np.array([0.9, 0.7, 0.6, 0.1]), truth)
    assert found.auc_one == 0.75
    assert found.error_one**2 == pytest.approx(1 / 8)
    assert found.auc_other == 1.0
    assert found.error_other == 0.0
    assert found.difference == -0.25
    assert found.error**2 == pytest.approx(1 / 8)
    assert found.p == pytest.approx(math.erfc(1 / 2))  # z^2 = 1/2
    assert found.high - found.difference == pytest.approx(1.959963984540054 * found.error)


@pytest.mark.parametrize("truth", [np.ones(5, bool), np.zeros(5, bool), np.ones(1, bool), np.zeros(0, bool)])
def test_one_class_only_or_no_images_at_all_give_nan_and_nothing_crashes(truth: np.ndarray) -> None:
    found = delong(np.linspace(0, 1, len(truth)), np.linspace(1, 0, len(truth)), truth)
    assert all(math.isnan(value) for value in found)


def test_a_single_positive_has_an_area_but_no_error() -> None:
    for truth in (np.arange(5) == 2, np.arange(5) != 2):
        found = delong(np.arange(5.0), np.ones(5), truth)
        assert found[:3] == (0.5, 0.5, 0.0)
        assert all(math.isnan(value) for value in found[3:])


def test_models_that_order_all_pairs_alike_do_not_differ() -> None:
    random = np.random.default_rng(0)
    truth = random.random(80) < 0.4
    scores = truth + random.normal(size=80)
    for other in (scores, np.exp(scores), 3 * scores - 7):
        found = delong(scores, other, truth)
        assert found.error_one > 0
        assert found[2] == 0.0
        assert found[5:] == (0.0, 0.0, 0.0, 1.0)


def test_two_perfect_separations_do_not_differ_and_one_beside_a_constant_has_no_interval() -> None:
    truth = np.arange(9) < 4
    perfect, perfect_too, constant = truth * 1.0, truth + np.arange(9) / 100, np.full(9, 0.3)
    assert delong(perfect, perfect_too, truth) == DeLong(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    for one, other, difference in ((perfect, constant, 0.5), (constant, perfect, -0.5), (perfect, -perfect, 1.0)):
        found = delong(one, other, truth)
        assert found.difference == difference
        assert found.error == 0.0
        assert all(math.isnan(value) for value in (found.low, found.high, found.p))


def test_models_in_the_other_order_give_the_difference_with_the_other_sign() -> None:
    grade, level, poor = asah()
    there, back = delong(grade, level, poor), delong(level, grade, poor)
    assert back.difference == -there.difference
    assert (back.low, back.high) == (-there.high, -there.low)
    assert (back.error, back.p) == (there.error, there.p)
    assert (back.auc_one, back.error_one) == (there.auc_other, there.error_other)


def test_a_p_value_far_out_keeps_its_digits() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(20_000) < 10_000
    one, other = 3 * truth + random.normal(size=20_000), 2 * truth + random.normal(size=20_000)
    found = delong(one, other, truth)
    z = found.difference / found.error
    assert z > 20
    # Mills' ratio (Abramowitz and Stegun 1964, 26.2.12): 2 phi(z) / z (1 - 1/z^2 + 3/z^4) to 15/z^6.
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    assert found.p == pytest.approx(2 * density / z * (1 - z**-2 + 3 * z**-4), rel=15 / z**6, abs=0)


def test_the_interval_holds_the_truth_as_often_as_it_says_and_p_rejects_as_often() -> None:
    random, truth = np.random.default_rng(3), np.arange(300) < 100
    held, rejected = [], []
    for _ in range(1000):
        shared = random.normal(size=300)
        one, other = (truth + 0.8 * shared + 0.6 * random.normal(size=300) for _ in range(2))
        found = delong(one, other, truth)
        held.append(found.low <= 0 <= found.high)
        rejected.append(found.p < 0.05)
    assert 0.93 <= np.mean(held) <= 0.97  # 0.95 +- 3 sqrt(0.95 0.05 / 1000)
    assert np.mean(rejected) == pytest.approx(1 - np.mean(held), abs=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    truth = np.array([True, False, True])
    with pytest.raises(InputError, match="1 of 3 scores are not finite"):
        delong(np.zeros(3), np.array([0, np.nan, 1]), truth)
    with pytest.raises(InputError, match=r"\[3\] beside these scores"):
        delong(np.zeros(3), np.zeros(3), truth[:2])
    with pytest.raises(InputError, match="neither 0 nor 1"):
        delong(np.zeros(3), np.zeros(3), np.array([0, 1, 2]))
    with pytest.raises(InputError, match=r"\[N\]"):
        delong(np.zeros((3, 1)), np.zeros(3), truth)
