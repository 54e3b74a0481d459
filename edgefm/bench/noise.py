"""The machine's noise floor: by how much two processes that do the same differ here, and intervals that allow for it.

Not the noise within a process: that is the bootstrap's (`bootstrap.py`).

Two processes of one program are not equally fast: their memory lies elsewhere, and caches and neighbours differ. An interval
from the runs of one process does not know that, so a second `bench` would often fall outside it. A fixed loop would know the
machine, but not what engines do with it. So the same contender is started several times, which `bench` does anyhow, and answers
in each process; s is the standard deviation of those processes' medians, as a share of their mean, pooled over the contenders.
The floor is t s, t the 97.5 % point of Student's distribution with as many degrees of freedom as s has: a process differs from
the mean by more than that in 5 % of cases, if the medians are normal. It errs to the wide side: it is made of
medians of ten answers, which are less sure than one of a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # degrees of freedom 1 to 10


def noise_floor(spreads: Sequence[float], processes: int) -> dict[str, Any] | None:
    """Pool the contenders' spreads.

    Args:
        spreads: standard deviation of the medians as a share of their mean, one per contender.
        processes: how many of each there were.

    Returns:
        share (the floor, 0.01 is 1 %), contenders, processes (of each); None without spreads.
    """
    if not spreads or processes < 2:
        return None
    pooled = math.sqrt(sum(each * each for each in spreads) / len(spreads))
    share = _t(len(spreads) * (processes - 1)) * pooled
    return {"share": round(share, 5), "contenders": len(spreads), "processes": processes}


def widened(interval: Sequence[float] | None, noise: dict[str, Any] | None) -> tuple[float, float] | None:
    """An interval with the floor on both sides: low / (1 + share) to high (1 + share), as times are compared; None for none."""
    if interval is None:
        return None
    share = noise["share"] if noise else 0.0
    return round(interval[0] / (1 + share), 4), round(interval[1] * (1 + share), 4)


def quoted(timing: Mapping[str, Any]) -> Sequence[float] | None:
    """The one interval of a median that is shown and compared: `stated`, the widened one, where the floor is known."""
    found: Sequence[float] | None = timing.get("stated") or timing["interval"]
    return found


def _t(freedom: int) -> float:
    """The 97.5 % point of Student's t.

    Beyond 10 degrees of freedom by z + (z^3 + z) / (4 v) + (5 z^5 + 16 z^3 + 3 z) / (96 v^2) +
    (3 z^7 + 19 z^5 + 17 z^3 - 15 z) / (384 v^3), z = 1.96, good to 0.001 there.
    Source: Abramowitz and Stegun 1964, 26.7.5.
    """
    if freedom <= len(T975):
        return T975[freedom - 1]
    z = 1.959964
    second, third = 5 * z**5 + 16 * z**3 + 3 * z, 3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z
    return z + (z**3 + z) / (4 * freedom) + second / (96 * freedom**2) + third / (384 * freedom**3)
