"""How much further from 1 a model's calibration slope b is than its reference's b_r, as |ln b|, with the interval of that loss.

Not the slopes (`slope.py`), and not their draws (`intervals.py`).

    |ln b| - |ln b_r| = max(min(d, e), min(-d, -e)),   d = ln b - ln b_r,   e = ln b + ln b_r

The loss has a kink where b_r is 1, and there no bootstrap of the loss itself holds, however many images there are (Andrews
2000): whichever way the reference happens to err, the other model looks less bad. So d and e, which have no kink, get an
interval each, and the loss lies between the least and the greatest of the formula at their ends. A minimum is small where d
or e is: two chances, so they share the error, 2.5 % outside either for 2.5 % at each end of the loss (Bonferroni). That both
minima have to be small asks for no more (Berger 1982).

    d ± q,   q: the 97.5 % quantile of |d* - d| over the draws d*

Symmetric, because with few errors ln b is skewed, and a percentile interval leans to the wrong side (Hall 1988).

By `benchmarks/gate_errors.py`, of models too sure or not sure enough by just the margin 0.3 to 4 % of 300 pass with 8 to 100
errors in 300 and 1,000 images, where 2.5 % should. Of equally good ones at most 0.7 % are refused if they err on the same
ones; of those with errors of their own 18 % with 8 of them in 300 images (37 % are not judged), 9 % with 12, 0.3 % with 24.
Too many pass yet where images of one patient err together: 6 % with 24 errors in 300 images, five of each patient and
correlated by 0.8.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from .intervals import Drawn, Interval


def slope_loss(own: Drawn, reference: Drawn, level: float = 0.95) -> Interval:
    """The loss of a model with these slopes, from the same draws as its reference's; above 0 it is further from 1.

    Args:
        level: as `intervals.bootstrap_intervals` takes it: half of the rest lies on each side.

    Returns:
        Without ends where a slope is not a number, of all images or in more than 1 - level of the draws.
    """
    d, e = (math.log(own.value) + sign * math.log(reference.value) for sign in (-1, 1))
    known = np.isfinite(own.drawn) & np.isfinite(reference.drawn)
    undefined = int((~known).sum())
    if not known.any() or math.isnan(d) or undefined > (1 - level) * len(known):
        return Interval(_loss(d, e), math.nan, math.nan, undefined)
    one, other = np.log(own.drawn[known]), np.log(reference.drawn[known])
    ends = product(_symmetric(d, one - other, (1 + level) / 2), _symmetric(e, one + other, (1 + level) / 2))
    losses = [_loss(*each) for each in ends]
    return Interval(_loss(d, e), min(losses), max(losses), undefined)


def _loss(d: float, e: float) -> float:
    return max(min(d, e), min(-d, -e))


def _symmetric(value: float, drawn: np.ndarray, level: float) -> tuple[float, float]:
    """The ends around `value` that hold the share `level` of what was drawn, as far below as above."""
    reach = float(np.quantile(np.abs(drawn - value), level))
    return value - reach, value + reach
