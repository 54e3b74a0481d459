"""The noise floor: a hand-worked one, Student's points against scipy, and too little to say anything."""

from __future__ import annotations

import pytest

from edgefm.bench.compare import _spread
from edgefm.bench.noise import _t, noise_floor, widened


def test_a_floor_worked_by_hand():
    """Two contenders of 2 processes: s^2 = (0.01^2 + 0.03^2) / 2, 2 degrees of freedom, t = 4.303."""
    assert noise_floor([0.01, 0.03], 2) == {"share": 0.09622, "contenders": 2, "processes": 2}


def test_without_two_processes_nothing_is_known():
    assert noise_floor([], 5) is None
    assert noise_floor([0.0], 1) is None
    assert noise_floor([0.0], 5) == {"share": 0.0, "contenders": 1, "processes": 5}


def test_the_points_are_students():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (*range(1, 40), 100, 1000):
        assert _t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-3)


def test_an_interval_is_widened_on_both_sides_and_stays_above_zero():
    assert widened((2.0, 3.0), {"share": 0.25}) == (1.6, 3.75)
    assert widened((2.0, 3.0), {"share": 3.0}) == (0.5, 12.0)
    assert widened((2.0, 3.0), None) == (2.0, 3.0)
    assert widened(None, {"share": 0.1}) is None


@pytest.mark.parametrize(
    ("medians", "spread"), [([1.0], None), ([1.0, float("nan")], None), ([1.0, 3.0], 0.70711), ([2.0] * 5, 0.0)]
)
def test_the_spread_is_the_standard_deviation_over_the_mean(medians, spread):
    found = _spread(medians)
    assert found == spread if spread is None else found == pytest.approx(spread, abs=1e-5)
