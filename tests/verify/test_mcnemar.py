"""McNemar's p values equal the binomial sums, exact and mid-p, from no discordant image to a million of each."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.mcnemar import McNemar, mcnemar, p_values


def flags(both: int, only_one: int, only_other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Who is right on each image, mixed."""
    counts = (both, only_one, only_other, neither)
    order = np.random.default_rng(0).permutation(sum(counts))
    one, other = (np.repeat(right, counts)[order] for right in ([True, True, False, False], [True, False, True, False]))
    return one, other


def test_the_example_of_the_paper_worked_by_hand() -> None:
    # Bentur et al. 2009, table 1 of Fagerland et al. 2013: of 21 children 1 and 7 are discordant. X is binomial(8, 1/2):
    # P(X <= 1) = 9/256, twice that is 18/256; the mid-p value takes off P(X = 1) = 8/256.
    found = mcnemar(*flags(both=1, only_one=1, only_other=7, neither=12))
    assert found[:4] == (1, 1, 7, 12)
    assert found.exact == pytest.approx(18 / 256)
    assert found.mid_p == pytest.approx(10 / 256)


def test_a_split_in_half_is_the_least_uneven_there_is() -> None:
    # X is binomial(4, 1/2): P(X = 2) = 6/16, and the mid-p value is 1 - 3/16 (Fagerland et al. 2013, additional file 1).
    assert p_values(2, 2) == (1.0, pytest.approx(13 / 16))
    assert p_values(1, 0) == (1.0, pytest.approx(1 / 2))


def test_no_discordant_image_speaks_for_no_difference_and_no_image_for_nothing() -> None:
    assert mcnemar(*flags(5, 0, 0, 2)) == McNemar(5, 0, 0, 2, 1.0, 1.0)
    assert mcnemar(np.array([True]), np.array([True])) == McNemar(1, 0, 0, 0, 1.0, 1.0)
    found = mcnemar(np.zeros(0, bool), np.zeros(0, bool))
    assert found[:4] == (0, 0, 0, 0)
    assert math.isnan(found.exact)
    assert math.isnan(found.mid_p)


def test_no_p_value_is_above_1() -> None:
    for k in range(2000):  # the least uneven split of an odd number, whose exact value is 1 but for rounding
        exact, mid_p = p_values(k, k + 1)
        assert 0 < mid_p < exact <= 1
        assert exact == pytest.approx(1.0, rel=1e-11)


def test_who_is_called_one_does_not_matter() -> None:
    one, other = flags(3, 2, 9, 4)
    there, back = mcnemar(one, other), mcnemar(other, one)
    assert (there.only_one, there.only_other) == (back.only_other, back.only_one) == (2, 9)
    assert there[4:] == back[4:]


def test_all_small_splits_equal_the_sums_of_fractions() -> None:
    for n in range(1, 40):
        chance = [Fraction(math.comb(n, x), 2**n) for x in range(n + 1)]
        for k in range(n + 1):
            uneven = [abs(2 * x - n) for x in range(n + 1)]
            beyond = sum((c for c, u in zip(chance, uneven) if u > uneven[k]), Fraction())
            as_much = sum((c for c, u in zip(chance, uneven) if u == uneven[k]), Fraction())
            exact, mid_p = p_values(k, n - k)
            assert exact == pytest.approx(float(beyond + as_much), rel=1e-12, abs=0)
            assert mid_p == pytest.approx(float(beyond + as_much / 2), rel=1e-12, abs=0)


MANY = [(0, 5), (6, 16), (25, 2), (499, 501), (1021, 1100), (0, 1070), (10**6, 10**6), (10**6, 999_500), (997_999, 10**6)]
MANY += [(10**6, 990_000), (0, 10**6), (10**6, 1)]


@pytest.mark.parametrize(("only_one", "only_other"), MANY)
def test_any_count_equals_scipy(only_one: int, only_other: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    exact, mid_p = p_values(only_one, only_other)
    n, k = only_one + only_other, min(only_one, only_other)
    point = stats.binom.pmf(k, n, 0.5)
    assert exact == pytest.approx(stats.binomtest(only_one, n).pvalue, rel=1e-8, abs=0)
    half = point / 2 if only_one == only_other else point
    assert mid_p == pytest.approx(stats.binomtest(only_one, n).pvalue - half, rel=1e-8, abs=0)
    assert 0 <= mid_p <= exact <= 1


@pytest.mark.peer
def test_the_exact_value_equals_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for only_one, only_other in [(1, 7), (6, 16), (25, 2), (0, 3), (500, 450)]:
        theirs = tables.mcnemar([[10, only_one], [only_other, 20]], exact=True).pvalue
        assert p_values(only_one, only_other)[0] == pytest.approx(theirs, rel=1e-10, abs=0)


def test_equal_models_are_called_different_no_more_often_than_the_level_and_mid_p_comes_nearer_to_it() -> None:
    rejected = []  # at p <= 0.05, by the binomial itself, of each number of discordant images
    for n in range(6, 80):
        chance = [math.comb(n, x) / 2**n for x in range(n + 1)]
        rejected.append([sum(c for x, c in enumerate(chance) if p_values(x, n - x)[i] <= 0.05) for i in range(2)])
    exact, mid_p = np.array(rejected).T
    assert exact.max() <= 0.05
    assert (mid_p >= exact).all()
    assert exact.mean() < 0.035 < 0.04 < mid_p.mean() < 0.05


def test_what_is_no_correctness_is_refused() -> None:
    with pytest.raises(InputError, match="int64 and bool"):
        mcnemar(np.array([0, 1, 2]), np.array([True, False, True]))
    with pytest.raises(InputError, match="of the same images"):
        mcnemar(np.zeros(3, bool), np.zeros(4, bool))
    with pytest.raises(InputError, match="of the same images"):
        mcnemar(np.zeros((3, 2), bool), np.zeros((3, 2), bool))
