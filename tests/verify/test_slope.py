"""The calibration slope: what it is worth on models whose fault is known, and what the gate makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.runtime.decide import probabilities
from edgefm.spec.task import make_task
from edgefm.verify.slope import LEAST, Slope

from .people import too_sure

BINARY = make_task("binary", ("no", "yes"))
THREE = make_task("multiclass", ("a", "b", "c"))
BOTH = make_task("multilabel", ("mass", "fluid"))


def drawn(count: int, sure: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a binary model that is `sure` times too sure, and the truth."""
    logits, labels = too_sure(count, sure, seed)
    return probabilities(logits, BINARY), labels


@pytest.mark.parametrize("sure", [1.0, 2.0, 0.25])
def test_a_model_that_is_so_many_times_too_sure_has_the_slope_one_over_it(sure: float) -> None:
    p, labels = drawn(20_000, sure)
    assert Slope.of_probabilities(p, labels, BINARY).of(np.arange(len(p))) == pytest.approx(1 / sure, rel=0.03)


def test_it_is_scikit_learns_logistic_regression_on_the_logits_without_intercept() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    p, labels = drawn(300, 1.7, seed=4)
    rows = np.random.default_rng(1).integers(0, 300, 300)
    logit = np.log(p[:, 1] / p[:, 0])[rows, None]
    wanted = linear.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logit, labels[rows]).coef_[0, 0]
    assert Slope.of_probabilities(p, labels, BINARY).of(rows) == pytest.approx(wanted, rel=1e-6)


def test_of_many_classes_and_of_several_labels_it_is_the_best_temperature() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(2)
    z = random.normal(0, 1.5, (400, 3))
    labels = (probabilities(z, THREE).cumsum(axis=1) < random.random((400, 1))).sum(axis=1)
    p = probabilities(3 * z, THREE)

    def loss(b: float) -> float:
        q = b * np.log(p)
        return float((np.log(np.exp(q).sum(axis=1)) - q[np.arange(400), labels]).mean())

    wanted = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert Slope.of_probabilities(p, labels, THREE).of(np.arange(400)) == pytest.approx(wanted, rel=1e-4)
    two, truth = drawn(400, 1.0)[0], np.stack([drawn(400, 1.0)[1], drawn(400, 1.0)[1]], axis=1)
    alike = np.repeat(two[:, 1:], 2, axis=1)  # two labels that are one: as good as one of them
    one = Slope.of_probabilities(two, truth[:, 0], BINARY).of(np.arange(400))
    assert Slope.of_probabilities(alike, truth, BOTH).of(np.arange(400)) == pytest.approx(one, rel=1e-6)


def test_where_every_image_is_wrong_and_of_zeros_and_ones_it_stays_in_its_bounds() -> None:
    p = np.array([[0.0, 1.0], [1.0, 0.0], [0.3, 0.7]])
    rows = np.arange(3)
    assert Slope.of_probabilities(p, np.array([0, 1, 0]), BINARY).of(rows) == LEAST
    assert np.isnan(Slope.of_probabilities(p, np.array([1, 0, 1]), BINARY).of(rows[:0]))


def test_with_fewer_than_three_errors_there_is_no_slope() -> None:
    p, rows = np.array([0.9, 0.8, 0.3, 0.2, 0.6, 0.4]), np.arange(6)
    both, three = np.stack([1 - p, p], axis=1), np.stack([1 - p, 0.9 * p, 0.1 * p], axis=1)
    sides = np.stack([p, p], axis=1)
    for wrong, known in (([], False), ([4, 5], False), ([3, 4, 5], True)):
        truth = (p > 0.5).astype(int)
        truth[wrong] ^= 1
        assert np.isfinite(Slope.of_probabilities(both, truth, BINARY).of(rows)) == known
        assert np.isfinite(Slope.of_probabilities(three, truth, THREE).of(rows)) == known
        second = np.stack([(p > 0.5).astype(int), truth], axis=1)  # the errors of all labels count
        assert np.isfinite(Slope.of_probabilities(sides, second, BOTH).of(rows)) == known
        assert np.isnan(Slope.of_probabilities(both, truth, BINARY).of(rows[:3]))  # a draw without them


def test_a_model_that_is_far_too_sure_or_unsure_has_a_slope_and_is_not_taken_for_one_without_errors() -> None:
    logits, labels = too_sure(400, 1.0)
    for gain in (100.0, 0.01):
        assert np.isfinite(Slope.of_probabilities(probabilities(gain * logits, BINARY), labels, BINARY).of(np.arange(400)))


def test_a_model_that_is_never_sure_of_anything_has_any_slope_and_gives_a_number() -> None:
    assert np.isfinite(Slope.of_probabilities(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), BINARY).of(np.arange(4)))
