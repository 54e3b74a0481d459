"""The interval of a metric: how far it would move with other patients, by resampling the ones there are.

Not the metrics (`metrics.py`), and not a test of significance: a difference has an interval of its own, from the same draws.

The cluster bootstrap (Efron and Tibshirani 1993, chapters 8 and 13): whole patients are drawn with replacement, as many as
there are, because two images of one patient are not two observations. The interval is the percentile interval, not BCa: BCa's
corrections need the metric without each patient in turn, and break where a metric stands at its end (a sensitivity of 1, a
share of flips of 0: the bias term is infinite there), which is where a good model stands. With hundreds of patients both agree.
Of one number alone it is another: the calibration slope's loss (`slope_loss.py`).

What no bootstrap can do: where every image was right, every draw is right too, and the interval has no width. And with few
patients it is too narrow: with 20, an interval of 95 % holds the truth in about 93 of 100 cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]
Name = TypeVar("Name", bound=Hashable)
DRAWS = 1000
AT_ONCE = 2**18  # images times draws that are held in memory at a time


class Interval(NamedTuple):
    """A metric on all images, and the interval it lies in.

    Attributes:
        value: the metric itself; NaN where the images do not define it.
        low, high: the ends of the interval; NaN where there is none: one group only, or too many draws undefined.
        undefined: draws that did not define the metric and are left out.
    """

    value: float
    low: float
    high: float
    undefined: int = 0


class Drawn(NamedTuple):
    """A number on all images, and what it was in each draw, float64 `[D]`; D is 0 where there is one group only."""

    value: float
    drawn: Array


def bootstrap_intervals(
    metrics: Callable[[Array], Mapping[Name, float]], groups: Array, *, draws: int = DRAWS, seed: int = 0, level: float = 0.95
) -> dict[Name, Interval]:
    """The intervals of all numbers that `metrics` gives, each from the same draws.

    Two models are compared by one `metrics` that returns their difference too: both then see the same images in each draw (the
    paired bootstrap), so what is hard about the images cancels. Two calls with equal `groups`, `draws` and `seed` see the same
    draws as well.

    Args:
        metrics: of int64 positions `[M]`, 0 to N - 1, with repetition, to named numbers, always the same names. NaN where these
            images do not define one.
        groups: `[N]`, of any type that sorts: who belongs together, such as the patient of each image. `np.arange(N)` where
            each image stands for itself.
        draws: how many resamples, at least 1.
        seed: of the draws; the result is a pure function of it.
        level: the share of draws inside the interval, 0 to 1, half of the rest on each side.

    Returns:
        One `Interval` per name. Draws where a number is not finite are left out of its interval and counted; if they are more
        than the interval itself leaves out, a share of 1 - level, there is no interval.

    Raises:
        InputError: no images at all.
    """
    found = resampled(metrics, groups, draws=draws, seed=seed)
    return {name: interval(value, drawn, level) for name, (value, drawn) in found.items()}


def resampled(
    metrics: Callable[[Array], Mapping[Name, float]], groups: Array, *, draws: int = DRAWS, seed: int = 0
) -> dict[Name, Drawn]:
    """What the intervals of `bootstrap_intervals` are made of, with the same arguments, for an interval of another kind.

    Raises:
        InputError: no images at all.
    """
    if not len(groups):
        raise InputError("there are no images to measure on", expected="at least one")
    found = metrics(np.arange(len(groups)))
    names = list(found)
    _, member, size = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.empty((draws if len(size) > 1 else 0, len(names)))
    by_group = np.argsort(member.reshape(-1), kind="stable")
    start = np.cumsum(size) - size
    random = np.random.default_rng(seed)
    for row in drawn:
        again = metrics(by_group[_members(random.integers(len(size), size=len(size)), start, size)])
        row[:] = [again[name] for name in names]
    return {name: Drawn(float(found[name]), column) for name, column in zip(names, drawn.T)}


def weights(groups: Array, *, draws: int = DRAWS, seed: int = 0) -> Iterator[Array]:
    """How often each image is in each draw of `bootstrap_intervals` with the same arguments, a few draws at a time.

    For metrics that can be counted for many draws at once (`weighted.py`). Memory does not grow with images times draws.

    Returns:
        float64 `[B, N]`, whole numbers, B in sum `draws`; nothing where there is one group only, which has no intervals.

    Raises:
        InputError: no images at all.
    """
    if not len(groups):
        raise InputError("there are no images to measure on", expected="at least one")
    _, member, size = np.unique(groups, return_inverse=True, return_counts=True)
    if len(size) == 1:
        return
    random = np.random.default_rng(seed)
    at_once = max(1, AT_ONCE // len(groups))
    for begin in range(0, draws, at_once):
        block = [
            np.bincount(random.integers(len(size), size=len(size)), minlength=len(size))
            for _ in range(min(at_once, draws - begin))
        ]
        yield np.stack(block)[:, member.reshape(-1)].astype(np.float64)


def _members(chosen: Array, start: Array, size: Array) -> Array:
    """Positions of all members of the chosen groups: `start[g]`, ..., `start[g] + size[g] - 1` for each g in turn."""
    sizes = size[chosen]
    before = np.cumsum(sizes) - sizes
    return np.asarray(np.repeat(start[chosen] - before, sizes) + np.arange(int(sizes.sum())))


def interval(value: float, drawn: Array, level: float) -> Interval:
    """The percentile interval of a number, from what it was in each draw, float `[D]`; none where D is 0."""
    defined = drawn[np.isfinite(drawn)]
    undefined = len(drawn) - len(defined)
    if not len(defined) or not math.isfinite(value) or undefined > (1 - level) * len(drawn):
        return Interval(value, math.nan, math.nan, undefined)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), undefined)
