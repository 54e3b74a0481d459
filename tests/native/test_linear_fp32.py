"""Float linear layers in C++ against float64, and which table of kernels runs where."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("edgefm._native")

from edgefm import _native
from edgefm.runtime.cpu import cpu_features

from .linear_rows import HERE, After, Layer, linear_fp32, normal

SHAPES = [(1, 64, 16), (5, 37, 33), (37, 100, 48), (13, 193, 100), (26, 192, 17), (120, 384, 96), (7, 3100, 40)]


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh", "swiglu"])
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_against_float64(isa, activation, m, k, n):
    n = -(-n // 32) * 32 if activation == "swiglu" else n
    x, layer = normal(m, k), Layer(normal(n, k, seed=1, scale=k**-0.5), normal(n, seed=2))
    columns = n // 2 if activation == "swiglu" else n
    after = After(activation, normal(columns, seed=8), normal(m, columns, seed=9))
    exact = after.exact(x.astype(np.float64) @ layer.weight.T.astype(np.float64) + layer.bias)
    assert np.abs(linear_fp32(isa, x, layer, after) - exact).max() <= 4e-6 * max(1, np.abs(exact).max())


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 384, 2), (5, 37, 33), (26, 197, 64)])
def test_asked_for_the_same_bits_it_has_those_of_the_plain_loops(isa, m, k, n):
    x, layer = normal(m, k, scale=3), Layer(normal(n, k, seed=1, scale=k**-0.5), normal(n, seed=2))
    after = After("none", normal(n, seed=8), normal(m, n, seed=9))
    found = linear_fp32(isa, x, layer, after, same_bits=True)
    assert np.array_equal(found, linear_fp32("scalar", x, layer, after, same_bits=True))


def rounded_once(x: float, w: float, bias: float) -> np.float32:
    """x w + bias to the nearest float, ties to even, by way of fractions."""
    exact = Fraction(x) * Fraction(w) + Fraction(bias)
    near = np.float32(float(exact))  # at most one away: float() rounds once, float32() again
    nearest = min(
        (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))),
        key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.int32)) & 1),
    )
    return np.float32(nearest)


HALF = 2.0**-24  # of the last place of 1
A, B = 1 + 2.0**-12, 1 - 2.0**-12 + 2.0**-24  # A B = 1 + 2^-36: beside the middle by less than a double beside 1 can tell
NEAR_THE_MIDDLE = [
    (A, B * HALF, 1.0), (-A, B * HALF, 1 + 2 * HALF), (A, -B * HALF, -1.0), (A, B * 2.0**-30, 2.0**-6 * (1 + 4 * HALF)),
    (A * 2.0**-63, B * 2.0**-87, 2.0**-127), (-A * 2.0**-63, B * 2.0**-87, 2.0**-127 + 2.0**-149),
    (A * 2.0**-63, B * 2.0**-87, 2.0**-140), (-A * 2.0**-63, B * 2.0**-87, 2.0**-126),
    (A * 2.0**-63, B * 2.0**-87, -(2.0**-126)),
    (1.0, HALF, 1.0), (1.0, HALF, 1 + 2 * HALF), (1 + 2 * HALF, HALF, 1.0), (1 - HALF, HALF, 1.0),  # and just beside it
    (1 + 2 * HALF, HALF, 1 + 2 * HALF), (1 - HALF, HALF, 1 + 2 * HALF), (-1 - 2 * HALF, HALF, 1.0), (-1.0, HALF / 2, 1.0),
    (2.0**-60, 2.0**-60, HALF + 1), (2.0**-100, 2.0**-30, 1.0), (2.0**-100, -(2.0**-30), 1.0),
    (2.0**-70, 2.0**-79, 0.0), (2.0**-75, 2.0**-75, 0.0), (1 + 2 * HALF, 2.0**-149, 2.0**-149), (3.0, 2.0**-149, 2.0**-126),
    (1 + 2 * HALF, (1 + 2 * HALF) * 2.0**-127, -(2.0**-127)), (0.0, -1.0, 0.0), (1.0, -1.0, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("isa", HERE)
def test_product_and_sum_are_rounded_once_also_without_an_instruction_for_it(isa):
    rng = np.random.default_rng(0)
    ragged = rng.standard_normal((800, 3)) * 2.0 ** rng.integers(-80, 40, (800, 3))
    close = rng.integers(-(2**24), 2**24, (800, 3)) * [2.0**-24, HALF * 2.0**-23, 2.0**-23]
    cases = np.concatenate([NEAR_THE_MIDDLE, ragged, close]).astype(np.float32)
    for x, w, bias in (cases[i : i + 16].T for i in range(0, len(cases), 16)):
        found = linear_fp32(isa, np.ones((1, 1), np.float32), Layer(w[:, None], bias), same_bits=True)[0]
        assert np.array_equal(found, [rounded_once(1.0, *each) for each in zip(w.tolist(), bias.tolist(), strict=True)])
        for i in range(len(x)):
            alike = Layer(np.full((16, 1), w[i]), np.full(16, bias[i]))  # padding would be zeros, a case of their own
            found = linear_fp32(isa, x[i : i + 1, None], alike, same_bits=True)
            assert (found == rounded_once(float(x[i]), float(w[i]), float(bias[i]))).all(), (x[i], w[i], bias[i])


@pytest.mark.parametrize("isa", HERE)
def test_without_a_bias(isa):
    x, layer = normal(13, 70), Layer(normal(50, 70, seed=1))
    exact = x.astype(np.float64) @ layer.weight.T.astype(np.float64)
    assert np.abs(linear_fp32(isa, x, layer) - exact).max() <= 2e-6 * np.abs(exact).max()


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("m", [12, 13, 230])
def test_the_split_into_rows_changes_no_bit(isa, m):
    x, layer = normal(m, 2000), Layer(normal(50, 2000, seed=1), normal(50, seed=2))
    alone = np.concatenate([linear_fp32(isa, x[i : i + 1], layer) for i in range(m)])
    assert np.array_equal(linear_fp32(isa, x, layer), alone)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_spoils_no_other(isa, bad):
    x, layer = normal(15, 70), Layer(normal(50, 70, seed=1))
    clean = linear_fp32(isa, x, layer)
    x[13, 69] = bad
    y = linear_fp32(isa, x, layer)
    assert not np.isfinite(y[13]).any()
    assert np.array_equal(np.delete(y, 13, 0), np.delete(clean, 13, 0))


def test_the_variable_caps_the_tables(monkeypatch):
    rising = ["scalar", "sse41", "avx2", "avx_vnni", "avx512", "avx512_vnni"]
    for i, cap in enumerate(rising):
        monkeypatch.setenv("EDGEFM_ISA", cap)
        assert _native.best_table() == next(isa for isa in reversed(rising[: i + 1]) if isa in HERE)
    monkeypatch.setenv("EDGEFM_ISA", "")
    assert _native.best_table() == HERE[-1]
    monkeypatch.delenv("EDGEFM_ISA")
    assert _native.best_table() == HERE[-1]
    monkeypatch.setenv("EDGEFM_ISA", "sse9")
    with pytest.raises(ValueError, match=r"unknown instruction set .sse9.; expected scalar, sse41, .* or neon_dotprod"):
        _native.best_table()


@pytest.mark.skipif(not cpu_features()["sse4_1"], reason="a cap of another architecture")
def test_a_cap_of_another_architecture_leaves_the_plain_loops(monkeypatch):
    monkeypatch.setenv("EDGEFM_ISA", "neon_dotprod")
    assert _native.best_table() == "scalar"
    assert _native.isa() == "scalar"


def test_preparation_is_capped_by_the_same_words(monkeypatch):
    for cap, highest in (("sse41", "scalar"), ("avx_vnni", "avx2"), ("avx512_vnni", "avx512")):
        monkeypatch.setenv("EDGEFM_ISA", cap)
        found = _native.isa()
        assert found in ("scalar", "avx2", "avx512")
        assert ["scalar", "avx2", "avx512"].index(found) <= ["scalar", "avx2", "avx512"].index(highest)
