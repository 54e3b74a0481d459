"""Medians, percentiles and intervals on numbers whose answer is known, and contenders that take turns."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from edgefm.bench import latency
from edgefm.bench.latency import alternate, median, percentile, timed, timing


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(latency, "PAUSE", 0)


def shuffled(n: int) -> list[float]:
    return random.Random(n).sample([float(value) for value in range(1, n + 1)], n)


@pytest.mark.parametrize(
    ("n", "p50", "p95"), [(1, 1, 1), (2, 1.5, 2), (3, 2, 3), (20, 10.5, 19), (21, 11, 20), (100, 50.5, 95)]
)
def test_median_and_95th_percentile_of_known_numbers(n, p50, p95):
    found = timing(shuffled(n))
    assert (found.p50, found.p95, found.n) == (p50, p95, n)


def test_a_99th_percentile_is_told_from_500_runs_on():
    assert timing(shuffled(499)).p99 is None
    assert timing(shuffled(500)).p99 == 495


@pytest.mark.parametrize(("n", "median_known", "p95_known"), [(1, False, False), (5, False, False), (6, True, False)])
def test_few_runs_have_no_interval(n, median_known, p95_known):
    found = timing(shuffled(n))
    assert (found.interval is not None, found.p95_interval is not None) == (median_known, p95_known)


def test_a_95th_percentile_has_an_interval_from_60_runs_on():
    assert timing(shuffled(59)).p95_interval is None
    low, high = timing(shuffled(60)).p95_interval or (0, 0)
    assert low <= 57 <= high


def test_equal_runs_are_one_point():
    assert timing([2.0] * 8) == (2.0, 2.0, 8, (2.0, 2.0), None, None)


def test_a_percentile_is_one_of_the_values():
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0], 0.0) == 1.0
    assert median([4.0, 1.0]) == 2.5


def test_each_contender_is_first_second_and_last_equally_often():
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) or 1.0 for name in "abc"}
    found = alternate(contenders, 6, warmup=3)
    rounds = ["".join(calls[start : start + 3]) for start in range(0, 27, 3)]
    assert rounds == ["abc", "bca", "cab"] * 3
    assert all(Counter(each[place] for each in rounds) == {"a": 3, "b": 3, "c": 3} for place in range(3))
    assert {name: len(taken) for name, taken in found.items()} == {"a": 6, "b": 6, "c": 6}


def test_the_warm_up_does_not_count():
    numbers = iter([100.0, 100.0, 1.0, 2.0, 3.0])
    assert alternate({"a": lambda: next(numbers)}, 3, warmup=2) == {"a": [1.0, 2.0, 3.0]}


def test_one_run_of_one_contender_is_enough():
    steps: list[tuple[int, int]] = []
    assert alternate({"a": lambda: 7.0}, 1, warmup=0, step=lambda *seen: steps.append(seen)) == {"a": [7.0]}
    assert steps == [(1, 1)]


def test_a_call_of_this_process_is_timed_in_milliseconds(monkeypatch):
    clock = iter([1.0, 1.25])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    assert timed(lambda: None)() == 250.0
