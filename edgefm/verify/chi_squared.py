"""Whether decisions change more often in some groups than in others: Pearson's chi-squared (1900) of a table of two columns.

Not how much more often: that is each group's own count. Each image counts for itself, which several images of one patient
break: p comes out too small.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]
FEW = 5.0  # an expected count below which the chi-squared distribution is not trusted (Cochran 1954)
TABLES = 9_999


class ChiSquared(NamedTuple):
    """What the counts say.

    Attributes:
        statistic: sum of (found - expected)^2 / expected over both columns; NaN where there is nothing to compare.
        df: groups less one.
        p: how probable so uneven a table is if all groups change alike, 0 to 1; NaN likewise.
        method: "asymptotic", from the chi-squared distribution; "simulated", where an expected count is below 5: the share of
            9,999 tables with the same sums that are as uneven, (1 + those) / 10,000 (Hope 1968); "" where there is no p.
    """

    statistic: float
    df: int
    p: float
    method: str


def chi_squared(counts: Array, sizes: Array, *, seed: int = 0) -> ChiSquared:
    """Test the shares `counts / sizes` of the groups against each other.

    Args:
        counts: int `[G]`, images that changed. sizes: int `[G]`, images there are. A group without images is passed over.
        seed: of the simulated tables.

    Raises:
        InputError: shapes that do not fit, or more changed than there are.
    """
    counts, sizes = np.asarray(counts, np.int64), np.asarray(sizes, np.int64)
    if counts.ndim != 1 or counts.shape != sizes.shape or (counts < 0).any() or (counts > sizes).any():
        raise InputError(f"counts {counts.tolist()} of {sizes.tolist()}", expected="two of equal length, the first no larger")
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    changed, everyone, df = int(counts.sum()), int(sizes.sum()), max(0, len(sizes) - 1)
    if not df or changed in (0, everyone):
        return ChiSquared(math.nan, df, math.nan, "")
    statistic = float(_statistic(counts[None], sizes)[0])
    if min(changed, everyone - changed) * int(sizes.min()) >= FEW * everyone:
        return ChiSquared(statistic, df, upper_tail(statistic, df), "asymptotic")
    tables = np.random.default_rng(seed).multivariate_hypergeometric(sizes, changed, size=TABLES)
    as_uneven = int((_statistic(tables, sizes) >= statistic * (1 - 1e-9)).sum())
    return ChiSquared(statistic, df, (1 + as_uneven) / (1 + TABLES), "simulated")


def upper_tail(x: float, df: int) -> float:
    """P(X >= x) for a chi-squared X with `df` degrees of freedom, at least 1, by the finite sums of Abramowitz and Stegun
    (1964), 26.4.4 and 26.4.5: with h = x / 2,

        even df:  e^-h sum_{k=0}^{df/2 - 1} h^k / k!
        odd df:   erfc(sqrt h) + e^-h sum_{k=1}^{(df-1)/2} h^(k-1/2) / Gamma(k + 1/2)
    """
    h = x / 2
    if h <= 0:
        return 1.0
    half = 0.5 * (df % 2)
    powers = [k - half for k in range(1 if half else 0, (df + 1) // 2)]
    terms = math.fsum(math.exp(power * math.log(h) - h - math.lgamma(power + 1)) for power in powers)
    return min(1.0, terms + (math.erfc(math.sqrt(h)) if half else 0.0))


def _statistic(counts: Array, sizes: Array) -> Array:
    """Of tables `[T, G]` with the same sums, float64 `[T]`.

    With p = changed / everyone, both columns of group g together give (counts_g - p sizes_g)^2 / (p (1 - p) sizes_g).
    """
    p = counts[0].sum() / sizes.sum()
    return np.asarray((((counts - p * sizes) ** 2) / (p * (1 - p) * sizes)).sum(axis=1))
