"""How much further from 1 a slope is: by hand, at the kink of the loss, and where slopes are not numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefm.verify.intervals import Drawn, Interval
from edgefm.verify.slope_loss import slope_loss


def slopes(value: float, *drawn: float) -> Drawn:
    """From the logarithms of the slopes."""
    return Drawn(math.exp(value), np.exp(np.array(drawn)))


def test_by_hand_of_a_model_and_its_reference_that_err_alike() -> None:
    """d is -0.2 in every draw; e is -0.2, and -0.4 or 0 in the draws. max(min(-0.2, 0), min(0.2, 0.4)) = 0.2, and
    max(min(-0.2, -0.4), min(0.2, 0)) = 0."""
    found = slope_loss(slopes(-0.2, -0.3, -0.1), slopes(0.0, -0.1, 0.1))
    assert found == pytest.approx((0.2, 0.0, 0.2, 0), abs=1e-12)


def test_the_interval_reaches_as_far_to_both_sides_as_the_longer_tail() -> None:
    """The reference is far too sure, so that the loss is -d; d is 0.5, and the 97.5 % quantile of |d* - d| is 0.3."""
    drawn = [-1.5] * 90 + [-1.2] * 10
    found = slope_loss(slopes(-1.5, *drawn), slopes(-2.0, *([-2.0] * 100)))
    assert found == pytest.approx((-0.5, -0.8, -0.2, 0), abs=1e-12)


@pytest.mark.parametrize("own", [-0.9, -0.3, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("reference", [-0.6, 0.0, 0.6])
def test_without_chance_the_ends_are_the_loss_whichever_side_of_one_the_slopes_lie(own: float, reference: float) -> None:
    found = slope_loss(slopes(own, own, own), slopes(reference, reference, reference))
    loss = abs(own) - abs(reference)
    assert found == pytest.approx((loss, loss, loss, 0), abs=1e-12)


def test_a_model_that_is_its_reference_loses_nothing_however_little_is_known_of_both() -> None:
    drawn = np.random.default_rng(0).normal(0, 0.5, 200)
    assert slope_loss(slopes(0.1, *drawn), slopes(0.1, *drawn)) == pytest.approx((0, 0, 0, 0), abs=1e-12)


def test_a_model_that_mends_its_references_calibration_is_shown_to_be_no_worse() -> None:
    random = np.random.default_rng(0)
    chance = random.normal(0, 0.1, 500)
    found = slope_loss(slopes(0.0, *chance), slopes(-0.7, *(-0.7 + chance)))
    assert found.value == pytest.approx(-0.7)
    assert found.high < -0.2


@pytest.mark.parametrize("side", [-1, 1])
def test_of_models_that_are_worse_by_the_margin_beside_a_calibrated_reference_one_in_forty_passes(side: int) -> None:
    """And of an interval of the loss itself more than three: what the reference's chance does to it is taken for a gain."""
    random, margin, times, passed, plain = np.random.default_rng(1), 0.4, 3000, 0, 0
    for _ in range(times):
        reference, apart = random.normal(0, 0.1), random.normal(side * margin, 0.03)
        drawn = reference + random.normal(0, 0.1, 400)
        others = drawn + apart + random.normal(0, 0.03, 400)
        passed += slope_loss(slopes(reference + apart, *others), slopes(reference, *drawn)).high < margin
        plain += bool(np.quantile(np.abs(others) - np.abs(drawn), 0.975) < margin)
    assert passed / times < 0.025 + 3 * math.sqrt(0.025 / times)
    assert passed > 0
    assert plain / times > 0.075


def test_draws_without_a_slope_are_left_out_and_counted_and_many_leave_no_interval() -> None:
    for missing, there in ((5, True), (6, False)):
        own, reference = np.ones(100), np.full(100, 2.0)
        own[:3], reference[3:missing] = math.nan, math.nan
        found = slope_loss(Drawn(1.0, own), Drawn(2.0, reference))
        assert found.undefined == missing
        assert math.isfinite(found.low) == math.isfinite(found.high) == there
        assert found.value == -math.log(2)


def test_without_a_slope_of_all_images_or_without_draws_there_is_no_interval() -> None:
    ones, nan = np.ones(10), math.nan
    for own, reference in ((nan, 1.0), (1.0, nan)):
        assert all(math.isnan(each) for each in slope_loss(Drawn(own, ones), Drawn(reference, ones))[:3])
    alone = slope_loss(Drawn(1.0, ones[:0]), Drawn(1.0, ones[:0]))
    assert alone[0] == alone[3] == 0
    assert isinstance(alone, Interval)
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
