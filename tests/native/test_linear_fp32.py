"""Float linear layers in C++ against float64, and which table of kernels runs where."""

from __future__ import annotations

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
