"""Quantized rows and LayerNorm in C++: every instruction set has the bits of the plain loops, and those are held to float64."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("edgefm._native")

from edgefm import _native

from .linear_rows import CANARY, FAST, HERE, layernorm, normal, quantize

WIDTHS = [1, 3, 4, 15, 16, 17, 31, 64, 100, 191, 192, 384, 3416]


def hard_rows(k: int) -> np.ndarray:
    """Gaussian, constant, zero, tiny, huge, outlier, half-way rows; with NaN or infinity in first, middle and last place."""
    x = normal(16, k)
    x[1], x[2], x[3], x[4] = 0.25, 0, 1e-37, -0.0
    x[5] *= 1e30
    x[6] *= 1e-25
    x[7, :: max(1, k // 5)] *= 50
    x[8] = np.arange(k) % 128 - 0.5
    x[8, 0] = 127
    x[13] = (np.arange(k) % 128 - 0.5) * 0.0371
    x[9, 0], x[10, k // 2], x[11, k - 1] = np.nan, np.inf, -np.inf
    x[12, k - 1] = -np.nan
    return x


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("k", WIDTHS)
def test_codes_and_scales_are_those_of_the_plain_loops(isa, k):
    x = hard_rows(k)
    found, oracle = quantize(isa, x), quantize("scalar", x)
    assert np.array_equal(found.codes, oracle.codes)
    assert np.array_equal(found.scale, oracle.scale, equal_nan=True)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("k", WIDTHS)
def test_a_code_is_the_nearest_of_127_steps(isa, k):
    x = hard_rows(k)
    rows = quantize(isa, x)
    good = np.isfinite(x).all(1)
    assert np.isnan(rows.scale[~good]).all()
    assert not rows.codes[~good].any()
    assert np.abs(rows.codes).max() <= 127
    step = rows.scale[good, None].astype(np.float64)
    assert (np.abs(rows.codes[good] * step - x[good]) <= 0.5001 * step + 1e-30).all()
    assert (np.abs(rows.codes[good]).max(1) == np.where(np.abs(x[good]).max(1) < 1e-30, 0, 127)).all()


@pytest.mark.parametrize("isa", HERE)
def test_nothing_is_written_between_rows_but_what_fills_a_vector(isa):
    rows = quantize(isa, normal(3, 65))
    assert (rows.code[:, 96:] == CANARY).all()


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("k", [1, 5, 16, 37, 192, 384, 1023])
@pytest.mark.parametrize("parts", ["plain", "gamma", "both"])
def test_layernorm_against_float64(isa, k, parts):
    x = normal(7, k)
    x[1] += 3
    x[2] = 0.5
    x[3] *= 1e-3
    gamma = normal(k, seed=1) if parts != "plain" else None
    beta = normal(k, seed=2) if parts == "both" else None
    wide = x.astype(np.float64)
    exact = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-6)
    exact = exact * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    y, rows = layernorm(isa, x, gamma, beta)
    assert np.abs(y - exact).max() <= 5e-6 * max(1, np.abs(exact).max())
    assert np.array_equal(rows.codes, quantize("scalar", y.copy()).codes)
    assert np.allclose(rows.scale * 127, np.abs(y).max(1), rtol=1e-6)


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("k", WIDTHS[1:])
@pytest.mark.parametrize("parts", ["plain", "gamma", "beta", "both"])
def test_layernorm_has_the_bits_of_the_plain_loops(isa, k, parts):
    x = np.concatenate([normal(9, k) + 1, hard_rows(k)])
    gamma, beta = normal(k, seed=1) if parts in ("gamma", "both") else None, normal(k, seed=2) if "b" in parts else None
    with np.errstate(invalid="ignore"):
        (y, rows), (oracle, codes) = layernorm(isa, x, gamma, beta), layernorm("scalar", x, gamma, beta)
    assert np.array_equal(y, oracle, equal_nan=True)
    assert np.array_equal(rows.codes, codes.codes)
    assert np.array_equal(rows.scale, codes.scale, equal_nan=True)


@pytest.mark.parametrize("isa", HERE)
def test_floats_and_codes_can_be_had_alone(isa):
    x = normal(5, 100)
    y, rows = layernorm(isa, x)
    assert np.array_equal(layernorm(isa, x, codes=False)[0], y)
    alone = layernorm(isa, x, floats=False)[1]
    assert np.array_equal(alone.codes, rows.codes)
    assert np.array_equal(alone.scale, rows.scale)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 50, 99])
def test_layernorm_of_a_row_that_is_not_finite_is_nan_and_spoils_no_other(isa, bad, at):
    x = normal(3, 100)
    clean, _ = layernorm(isa, x)
    x[1, at] = bad
    y, rows = layernorm(isa, x)
    assert np.isnan(y[1]).all()
    assert np.isnan(rows.scale[1])
    assert not rows.codes[1].any()
    assert np.array_equal(y[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("k", [1, 3, 100, 385])
@pytest.mark.parametrize("row", ["one", "half", "all"])
@pytest.mark.parametrize("huge", [1e20, 3e38])
def test_layernorm_of_values_whose_squares_overflow_is_nan_and_not_beta(isa, k, row, huge):
    x = normal(3, k)
    clean, _ = layernorm(isa, x, beta=normal(k, seed=2))
    if row == "one":
        x[1, k // 2] = huge
    elif row == "half":
        x[1, ::2], x[1, 1::2] = huge, -huge
    else:
        x[1] = huge
    alike = k == 1 or (row == "all" and k * huge < 3.4e38)  # then nothing is left of them but rounding
    y, rows = layernorm(isa, x, beta=normal(k, seed=2))
    if not alike:
        assert np.isnan(y[1]).all()
        assert np.isnan(rows.scale[1])
        assert not rows.codes[1].any()
    assert np.array_equal(y[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("isa", HERE)
def test_layernorm_of_values_whose_squares_just_fit_is_right(isa):
    x = normal(2, 64)
    assert np.abs(layernorm(isa, 1e17 * x)[0] - layernorm(isa, x)[0]).max() <= 1e-4


@pytest.mark.parametrize("isa", HERE)
def test_layernorm_may_overwrite_its_input(isa):
    x = normal(4, 37)
    expected, _ = layernorm(isa, x, codes=False)
    _native.layernorm(isa=isa, x=x.ctypes.data, x_stride=37, rows=4, k=37, y=x.ctypes.data, y_stride=37)
    assert np.array_equal(x, expected)
