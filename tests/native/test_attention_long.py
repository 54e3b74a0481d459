"""Attention over more tokens than whole rows are made of: tiles of keys, put together, against float64."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("edgefm._native")

from .attention_heads import attend, nmse, present

FAST = [isa for isa in present() if isa != "scalar"]
LONG = 8200  # two tiles of keys


@pytest.fixture(scope="module")
def long():
    qkv = np.random.default_rng(0).standard_normal((LONG, 3, 32), np.float32)
    qkv[5000, 1] *= 40  # one tile holds the largest score of many rows
    return qkv


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_longer_sequences_go_through_tiles_of_keys(isa, precision, long):
    found = attend(isa, precision, long, 0.2)
    rows = [0, 1, 63, 64, 4159, 4160, 5000, LONG - 1]
    q, k, v = (long[:, i].astype(np.float64) for i in range(3))
    scores = 0.2 * q[rows] @ k.T
    lse = np.log(np.exp(scores).sum(1))
    p = np.exp(scores - lse[:, None])
    if precision == "fp32":
        assert np.abs(found.y[rows] - p @ v).max() <= 1e-5 * np.abs(v).max()
        assert found.lse[rows] == pytest.approx(lse, rel=1e-5)
        assert found.row0 == pytest.approx(p[0], rel=1e-4, abs=1e-9)
    else:
        assert nmse(found.y[rows], p @ v) <= 1e-3
        assert found.lse[rows] == pytest.approx(lse, rel=0.05)  # one key is 40 times as long as others
    assert found.row0.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_over_tiles_too_the_split_into_rows_and_what_is_asked_for_change_no_bit(precision, long):
    whole = attend(FAST[-1], precision, long, 0.2)
    split = attend(FAST[-1], precision, long, 0.2, splits=[1, 70, 4160, 4161])
    bare = attend(FAST[-1], precision, long, 0.2, wanted=False)
    assert (whole.y == split.y).all()
    assert (whole.lse == split.lse).all()
    assert (whole.row0 == split.row0).all()
    assert (whole.y == bare.y).all()


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("row", [3, LONG - 1])
def test_nan_spoils_what_it_touches_over_tiles_too(precision, row, long):
    bad = long.copy()
    bad[row, 0, 7] = np.nan
    spoilt = np.isnan(attend(FAST[-1], precision, bad, 0.2).y)
    assert spoilt[row].all()
    assert not np.delete(spoilt, row, 0).any()
    bad = long.copy()
    bad[row, 1, 7] = np.nan
    found = attend(FAST[-1], precision, bad, 0.2)
    for each in (found.y, found.lse, found.row0):
        assert np.isnan(each).all()
    bad = long.copy()
    bad[row, 2, 7] = np.nan
    spoilt = np.isnan(attend(FAST[-1], precision, bad, 0.2).y)
    assert spoilt[:, 7].all()
    assert not np.delete(spoilt, 7, 1).any()
