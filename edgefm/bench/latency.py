"""Times of contenders that take turns: median with its interval, percentiles, ratio.

Not what is timed: a contender is anything that can be called and says how many milliseconds it took.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .bootstrap import FEWEST, P95_FEWEST, percentile_intervals

PAUSE = 0.005  # seconds before each call, so that threads of the one before, which spin for more work, have gone to sleep
P99_FROM = 500  # runs; with fewer the 99th percentile is the last few of them


class Timing(NamedTuple):
    """Milliseconds of one contender over `n` runs.

    Attributes:
        p50, p95, p99: median and percentiles; p99 is None below 500 runs.
        interval: 95 % interval of the median, None below 6 runs. p95_interval: of p95, None below 60. See `bootstrap.py`.
    """

    p50: float
    p95: float
    n: int
    interval: tuple[float, float] | None = None
    p99: float | None = None
    p95_interval: tuple[float, float] | None = None


def timing(milliseconds: Sequence[float]) -> Timing:
    """Summarise the runs of one contender, at least one, in the order in which they came."""
    n = len(milliseconds)
    shares = [0.5] * (n >= FEWEST) + [0.95] * (n >= P95_FEWEST)
    intervals = [(round(low, 4), round(high, 4)) for low, high in percentile_intervals(milliseconds, shares)]
    return Timing(
        p50=round(median(milliseconds), 4),
        p95=round(percentile(milliseconds, 0.95), 4),
        n=n,
        interval=intervals[0] if n >= FEWEST else None,
        p99=round(percentile(milliseconds, 0.99), 4) if n >= P99_FROM else None,
        p95_interval=intervals[1] if n >= P95_FEWEST else None,
    )


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed: x_(ceil(share n)), the nearest rank.

    Source: Hyndman and Fan 1996, definition 1.
    """
    # 0.95 * 20 is one rounding above 19; a hair less is exact for every n that a run may have
    return sorted(values)[max(1, math.ceil(share * len(values) - 1e-9)) - 1]


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """A contender in this process: runs `call` and returns the milliseconds that it took."""

    def run() -> float:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3

    return run


def alternate(
    contenders: Mapping[str, Callable[[], float]],
    runs: int,
    *,
    warmup: int = 3,
    step: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, list[float]]:
    """Call each contender once per round, in an order that turns by one each round: what disturbs the machine meets all.

    Args:
        contenders: name to a callable that does the whole work once and returns its milliseconds.
        runs: rounds that count. warmup: rounds before them that do not.
        step: told after each round how many are done, and of how many.

    Returns:
        Milliseconds by name, `runs` each, in the order of the rounds.
    """
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + runs):
        for name in turned(names, turn):
            time.sleep(PAUSE)
            milliseconds = contenders[name]()
            if turn >= warmup:
                taken[name].append(milliseconds)
        step(turn + 1, warmup + runs)
    return taken


def turned(names: Sequence[str], turn: int) -> list[str]:
    """The order of a round: each is first, second, … last equally often."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]
