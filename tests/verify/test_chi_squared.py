"""Chi-squared of flips by group: scipy's where counts are large, the tables themselves where they are small."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.chi_squared import chi_squared, upper_tail


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 10, 19])
@pytest.mark.parametrize("x", [0.0, 1e-9, 0.3, 3.84, 20.0, 400.0, 3000.0])
def test_the_upper_tail_is_scipys(x: float, df: int) -> None:
    scipy = pytest.importorskip("scipy.stats")
    assert upper_tail(x, df) == pytest.approx(scipy.chi2.sf(x, df), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("counts", "sizes"), [([10, 30], [100, 150]), ([20, 35, 8, 50], [200, 300, 90, 310])])
def test_large_counts_give_what_scipy_gives(counts: list[int], sizes: list[int]) -> None:
    scipy = pytest.importorskip("scipy.stats")
    table = np.array([counts, np.subtract(sizes, counts)])
    theirs = scipy.chi2_contingency(table, correction=False)
    mine = chi_squared(np.array(counts), np.array(sizes))
    assert mine.method == "asymptotic"
    assert (mine.statistic, mine.df, mine.p) == pytest.approx((theirs.statistic, theirs.dof, theirs.pvalue), rel=1e-10)


@pytest.mark.parametrize(("counts", "sizes"), [([0, 4], [60, 40]), ([1, 5], [100, 30]), ([2, 2], [9, 300])])
def test_small_counts_are_held_against_tables_of_the_same_sums(counts: list[int], sizes: list[int]) -> None:
    # of two groups every table is known: one number, hypergeometric; as uneven as seen means at least as large a statistic
    scipy = pytest.importorskip("scipy.stats")
    mine = chi_squared(np.array(counts), np.array(sizes))
    changed, everyone = sum(counts), sum(sizes)
    k = np.arange(max(0, changed - sizes[1]), min(changed, sizes[0]) + 1)
    far = np.abs(k / sizes[0] - (changed - k) / sizes[1])
    exact = scipy.hypergeom.pmf(k, everyone, sizes[0], changed)[far >= far[k == counts[0]] - 1e-12].sum()
    assert mine.method == "simulated"
    assert mine.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 9999))


def test_a_table_by_hand() -> None:
    # 10 of 100 and 30 of 100: expected 20 and 20, 80 and 80; 100 / 20 + 100 / 20 + 100 / 80 + 100 / 80 = 12.5
    assert chi_squared(np.array([10, 30]), np.array([100, 100])).statistic == pytest.approx(12.5)


@pytest.mark.parametrize(("counts", "sizes"), [([0, 0], [5, 5]), ([5, 5], [5, 5]), ([3], [9]), ([], []), ([0, 2], [0, 9])])
def test_where_there_is_nothing_to_compare_there_is_no_p(counts: list[int], sizes: list[int]) -> None:
    found = chi_squared(np.array(counts, int), np.array(sizes, int))
    assert math.isnan(found.p)
    assert found.method == ""


def test_more_flips_than_images_are_refused() -> None:
    with pytest.raises(InputError, match="the first no larger"):
        chi_squared(np.array([3]), np.array([2]))


def test_it_rejects_as_often_as_it_says_where_groups_change_alike() -> None:
    random = np.random.default_rng(0)
    sizes = np.array([30, 50, 120])
    rejected = np.mean([chi_squared(random.binomial(sizes, 0.03), sizes, seed=n).p <= 0.05 for n in range(400)])
    assert rejected < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)  # tables of few flips are coarse: it errs to the safe side
