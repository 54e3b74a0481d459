"""Block bootstrap intervals: against scipy where it can, by coverage where neighbours correlate, and on the smallest series."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.bench import bootstrap
from edgefm.bench.bootstrap import percentile_intervals


def series(n: int, correlation: float, seed: int) -> np.ndarray:
    """Times whose logarithm is a first-order autoregression; the true median is 1."""
    random = np.random.default_rng(seed)
    steps, value, found = random.normal(size=n + 50), 0.0, []
    for step in steps:
        value = correlation * value + np.sqrt(1 - correlation**2) * step
        found.append(np.exp(0.1 * value))
    return np.array(found[50:])


def test_equal_times_are_one_point():
    assert percentile_intervals([2.0] * 10, (0.5, 0.95)) == [(2.0, 2.0), (2.0, 2.0)]


def test_one_time_and_no_share_are_no_error():
    assert percentile_intervals([3.0], (0.5, 0.95)) == [(3.0, 3.0), (3.0, 3.0)]
    assert percentile_intervals([3.0, 1.0], ()) == []


def test_the_same_times_give_the_same_intervals_and_each_lies_within_what_was_seen():
    times = series(100, 0.5, 3)
    (low, high), (low95, high95) = percentile_intervals(times, (0.5, 0.95))
    assert percentile_intervals(times, (0.5, 0.95)) == [(low, high), (low95, high95)]
    assert times.min() <= low < np.median(times) < high < high95 <= times.max()
    assert low95 > high


def test_draws_in_several_pieces_are_the_same_kind_of_draws(monkeypatch):
    times = series(100, 0.0, 4)
    whole = percentile_intervals(times, (0.5,))
    monkeypatch.setattr(bootstrap, "MOST", 1000)  # ten draws at once
    assert percentile_intervals(times, (0.5,))[0] == pytest.approx(whole[0], rel=0.01)


def test_of_independent_times_it_agrees_with_scipys_bootstrap():
    stats = pytest.importorskip("scipy.stats")
    times = series(400, 0.0, 5)
    scipys = stats.bootstrap((times,), np.median, method="percentile", n_resamples=2000, rng=np.random.default_rng(0))
    low, high = percentile_intervals(times, (0.5,))[0]
    width = scipys.confidence_interval.high - scipys.confidence_interval.low
    assert (low, high) == pytest.approx(tuple(scipys.confidence_interval), abs=0.25 * width)


def test_where_neighbours_correlate_blocks_cover_and_single_runs_would_not(monkeypatch):
    def covered() -> float:
        ends = [percentile_intervals(series(200, 0.6, seed), (0.5,))[0] for seed in range(120)]
        return sum(low <= 1.0 <= high for low, high in ends) / len(ends)

    monkeypatch.setattr(bootstrap, "DRAWS", 200)
    blocks = covered()
    monkeypatch.setattr(bootstrap.math, "ceil", lambda value: 1 if 5 < value < 6 else int(-(-value // 1)))  # 200^(1/3) = 5.8
    single = covered()
    assert blocks > 0.82
    assert single < blocks - 0.08
