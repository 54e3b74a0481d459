"""An interval holds the truth as often as it says, treats a patient as one, and says nothing where nothing is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.intervals import Interval, bootstrap_intervals, resampled
from edgefm.verify.metrics import auc


def mean_of(values: np.ndarray) -> Callable[[np.ndarray], dict[str, float]]:
    return lambda rows: {"mean": float(values[rows].mean())}


def test_no_images_is_an_error() -> None:
    with pytest.raises(InputError, match="no images"):
        bootstrap_intervals(mean_of(np.zeros(0)), np.arange(0))


@pytest.mark.parametrize("groups", [np.arange(1), np.zeros(30, int), np.array(["P1"] * 30)])
def test_one_patient_has_a_value_but_no_interval(groups: np.ndarray) -> None:
    found = bootstrap_intervals(mean_of(np.arange(30.0)[: len(groups)]), groups)["mean"]
    assert found.value == pytest.approx(np.arange(30.0)[: len(groups)].mean())
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_metric_that_is_nan_on_all_images_stays_nan() -> None:
    found = bootstrap_intervals(lambda rows: {"auc": math.nan}, np.arange(10), draws=50)["auc"]
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert found.undefined == 50


def test_a_few_undefined_draws_are_left_out_and_counted_and_many_leave_no_interval() -> None:
    scores = np.arange(40.0)
    for positives, there in ((5, True), (1, False)):  # no positive in a draw: (1 - p/40)^40, 0.5 % or 36 %
        truth = np.arange(40) < positives
        found = bootstrap_intervals(lambda rows, truth=truth: {"auc": auc(-scores[rows], truth[rows])}, np.arange(40))["auc"]
        assert found.undefined > 0
        assert math.isfinite(found.low) == there
        assert found.value == 1.0


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=50)
    first, again, other = (
        bootstrap_intervals(mean_of(values), np.arange(50), draws=200, seed=seed)["mean"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first.low != other.low


def test_what_is_drawn_is_what_the_intervals_are_made_of() -> None:
    values, groups = np.random.default_rng(0).normal(size=50), np.repeat(np.arange(25), 2)
    interval = bootstrap_intervals(mean_of(values), groups, draws=200, seed=3)["mean"]
    value, drawn = resampled(mean_of(values), groups, draws=200, seed=3)["mean"]
    assert interval == pytest.approx((value, *np.quantile(drawn, [0.025, 0.975]), 0))
    assert len(resampled(mean_of(values), np.zeros(50), draws=200)["mean"].drawn) == 0  # one patient alone


def test_every_draw_takes_whole_patients_as_many_as_there_are() -> None:
    groups = np.array(["b", "a", "b", "c", "b", "a"])
    seen: list[np.ndarray] = []

    def keep(rows: np.ndarray) -> dict[str, float]:
        seen.append(rows)
        return {"m": 0.0}

    bootstrap_intervals(keep, groups, draws=200)
    assert seen[0].tolist() == list(range(6))
    for rows in seen[1:]:
        times = np.bincount(rows, minlength=6)
        assert times[0] == times[2] == times[4]
        assert times[1] == times[5]
        assert times[0] + times[1] + times[3] == 3


@pytest.mark.parametrize("size", [60, 400])
def test_images_by_themselves_give_the_interval_of_scipy(size: int) -> None:
    scipy = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(size).gamma(2.0, size=size)
    ours = bootstrap_intervals(mean_of(values), np.arange(size), draws=4000)["mean"]
    theirs = scipy.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    near = 0.05 * (theirs.high - theirs.low)
    assert ours.low == pytest.approx(theirs.low, abs=near)
    assert ours.high == pytest.approx(theirs.high, abs=near)


def test_a_difference_on_the_same_draws_is_narrower_than_two_models_apart() -> None:
    random = np.random.default_rng(0)
    truth = random.random(300) < 0.4
    one = truth + random.normal(size=300)
    other = one + 0.1 * random.normal(size=300)

    def compare(rows: np.ndarray) -> dict[str, float]:
        a, b = auc(one[rows], truth[rows]), auc(other[rows], truth[rows])
        return {"one": a, "other": b, "difference": b - a}

    found = bootstrap_intervals(compare, np.arange(300))
    assert found["difference"].value == pytest.approx(found["other"].value - found["one"].value)
    assert width(found["difference"]) < width(found["one"]) / 4
    assert found["difference"].low < 0 < found["difference"].high


def test_the_interval_holds_the_truth_as_often_as_it_says_and_only_if_patients_stay_whole() -> None:
    random, patients, images = np.random.default_rng(5), 60, 4
    by_patient, by_image = np.repeat(np.arange(patients), images), np.arange(patients * images)
    held, naive = [], []
    for trial in range(150):
        values = np.repeat(random.normal(size=patients), images) + 0.5 * random.normal(size=patients * images)
        for groups, hits in ((by_patient, held), (by_image, naive)):
            found = bootstrap_intervals(mean_of(values), groups, draws=200, seed=trial)["mean"]
            hits.append(found.low <= 0 <= found.high)
    assert 0.88 <= np.mean(held) <= 0.99
    assert np.mean(naive) < 0.8


def width(interval: Interval) -> float:
    return interval.high - interval.low
