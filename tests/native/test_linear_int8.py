"""int8 linear layers in C++: every instruction set has the bits of the plain loops, and those are held to float64."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("edgefm._native")

from edgefm import _native

from .linear_rows import FAST, HERE, After, Layer, activate, aligned, linear_int8, nmse, normal, quantize

SHAPES = [(1, 64, 16), (5, 37, 33), (37, 100, 48), (13, 65, 100), (26, 192, 17), (12, 384, 96), (7, 4100, 40), (3, 9001, 18)]
ACTIVATIONS = ["none", "gelu", "gelu_tanh", "swiglu"]


def layer(n, k, seed=1) -> Layer:
    return Layer(normal(n, k, seed=seed, scale=k**-0.5), normal(n, seed=seed + 1))


def adapter(n, k, rank, seed=5) -> tuple[Layer, Layer]:
    return Layer(normal(rank, k, seed=seed, scale=k**-0.5)), Layer(normal(n, rank, seed=seed + 1, scale=0.5 * rank**-0.5))


def after(activation, m, n) -> After:
    columns = n // 2 if activation == "swiglu" else n
    return After(activation, normal(columns, seed=8), normal(m, columns, seed=9))


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_sums_are_exact(isa, m, k, n):
    """With scales of a power of two and sums below 2^24, y shows each sum as it is."""
    weight = np.random.default_rng(k).integers(-127, 128, (n, k)).astype(np.float32)
    x = np.random.default_rng(m).integers(-127, 128, (m, k)).astype(np.float32)
    weight[:, 0], x[:, 0] = 127, -127
    plain = Layer(weight)
    rows = quantize(isa, x)
    assert np.array_equal(rows.codes, x)
    assert np.array_equal(plain.codes, weight)
    y = linear_int8(rows, plain)
    assert np.abs(x.astype(np.int64) @ weight.astype(np.int64).T).max() < 2**24
    assert np.array_equal(y, x.astype(np.float64) @ weight.T.astype(np.float64))


@pytest.mark.parametrize("isa", HERE)
def test_no_sum_saturates(isa):
    """Pairs of the largest products of one sign, which pmaddubsw cannot add in 16 bits."""
    for sign in (1, -1):
        x, weight = np.full((5, 256), 127, np.float32), np.full((20, 256), sign * 127, np.float32)
        assert (linear_int8(quantize(isa, x), Layer(weight)) == sign * 127 * 127 * 256).all()


@pytest.mark.parametrize("isa", FAST)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("m", "k", "n"), SHAPES[:6])
def test_the_bits_are_those_of_the_plain_loops(isa, activation, m, k, n):
    n = -(-n // 32) * 32 if activation == "swiglu" else n
    x, linear, then = normal(m, k), layer(n, k), after(activation, m, n)
    assert np.array_equal(linear_int8(quantize(isa, x), linear, then), linear_int8(quantize("scalar", x), linear, then))


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_follows_against_float64_of_the_same_codes(isa, activation):
    linear, then = layer(96, 80), after(activation, 37, 96)
    rows = quantize(isa, normal(37, 80, scale=3))
    z = rows.codes @ linear.codes.T * rows.scale[:, None].astype(np.float64) * linear.scale + linear.bias
    exact = then.exact(z)
    assert np.abs(linear_int8(rows, linear, then) - exact).max() <= 2e-6 * max(1, np.abs(exact).max())


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_gelu_is_right_to_a_millionth_everywhere(isa, activation):
    """Through a layer of one input: y = gelu(x), from far below to far above."""
    x = np.concatenate([np.linspace(-12, 12, 4001), [0, -0.0, 1e-30, 1e4, -1e4, 1e30, -1e30]]).astype(np.float32)[:, None]
    one = Layer(np.ones((1, 1), np.float32))
    y, oracle = (linear_int8(quantize(each, x), one, After(activation)) for each in (isa, "scalar"))
    assert np.array_equal(y, oracle)
    exact = activate(activation, x.astype(np.float64))
    assert (np.abs(y - exact) <= 1.2e-6 + 2e-7 * np.abs(exact)).all()


@pytest.mark.parametrize("isa", HERE)
def test_silu_is_right_everywhere(isa):
    x = np.concatenate([np.linspace(-100, 100, 4001), [0, 1e-30, 1e4, -1e4, 1e30, -1e30]]).astype(np.float32)[:, None]
    linear = Layer(np.repeat([1.0, 0.0], 16).astype(np.float32)[:, None], np.repeat([0.0, 1.0], 16).astype(np.float32))
    y, oracle = (linear_int8(quantize(each, x), linear, After("swiglu")) for each in (isa, "scalar"))
    assert np.array_equal(y, oracle)
    with np.errstate(over="ignore"):
        exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    # exp(x) feels the last bit of x in proportion to x
    assert (np.abs(y - exact) <= (1e-6 + 2e-7 * np.minimum(np.abs(x), 100)) * np.abs(exact) + 1e-30).all()


INPUTS = {
    "Gaussian": (lambda x: x, 2.5e-4),
    "five channels x50": (lambda x: x * np.where(np.arange(x.shape[1]) % 77 == 3, 50, 1).astype(np.float32), 2e-2),
    "constant": (lambda x: np.full_like(x, 0.7), 2.5e-4),
    "one large row": (lambda x: x * np.where(np.arange(len(x)) == 2, 1e4, 1).astype(np.float32)[:, None], 2.5e-4),
}


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("m", "k", "n"), [(37, 384, 192), (5, 101, 50)])
def test_against_the_layer_in_float64(isa, kind, m, k, n):
    change, bound = INPUTS[kind]
    x, linear = change(normal(m, k)), layer(n, k)
    y = linear_int8(quantize(isa, x), linear)
    exact = x.astype(np.float64) @ linear.weight.T.astype(np.float64) + linear.bias
    assert max(nmse(a, b) for a, b in zip(y, exact, strict=True) if np.abs(b).max() < 100) <= bound


@pytest.mark.parametrize("isa", HERE)
def test_zero_rows_give_the_bias(isa):
    x, linear = normal(4, 70), layer(50, 70)
    x[[0, 2]] = 0
    y = linear_int8(quantize(isa, x), linear)
    assert (y[[0, 2]] == linear.bias).all()
    assert not (y[1] == linear.bias).any()


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_row_that_is_not_finite_is_nan_and_spoils_no_other(isa, bad, activation):
    x, linear, low, then = normal(15, 70), layer(64, 70), adapter(64, 70, 16), after(activation, 15, 64)
    clean = linear_int8(quantize(isa, x), linear, then, [low])
    x[13, 69] = bad
    y = linear_int8(quantize(isa, x), linear, then, [low])
    assert np.isnan(y[13]).all()
    assert np.array_equal(np.delete(y, 13, 0), np.delete(clean, 13, 0))


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("rank", [1, 3, 16, 17, 64])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 37, 16), (37, 192, 100)])
def test_adapters_by_row(isa, rank, m, k, n):
    x, linear, then = normal(m, k), layer(n, k), after("gelu", m, n)
    low = [adapter(n, k, rank, seed) for seed in (5, 7, 9)]
    of = np.random.default_rng(rank).integers(-1, 3, m).astype(np.int32)
    rows = quantize(isa, x)
    y = linear_int8(rows, linear, then, low, of)
    z = linear_int8(rows, linear).astype(np.float64)
    for i, (a, b) in enumerate(low):
        inner = linear_int8(rows, a).astype(np.float64)
        z += np.where((of == i)[:, None], inner @ b.weight.T.astype(np.float64), 0)
    assert nmse(y - then.residual, then.exact(z) - then.residual) <= 2e-4
    scalar = linear_int8(quantize("scalar", x), linear, then, low, of)
    assert np.array_equal(y, scalar)
    assert np.array_equal(y[of < 0], linear_int8(rows, linear, then)[of < 0])


@pytest.mark.parametrize("isa", HERE)
def test_all_rows_take_the_first_adapter_where_none_is_named(isa):
    rows, linear, low = quantize(isa, normal(13, 70)), layer(50, 70), [adapter(50, 70, 16), adapter(50, 70, 16, 9)]
    first = linear_int8(rows, linear, adapters=low, adapter_of=np.zeros(13, np.int32))
    assert np.array_equal(linear_int8(rows, linear, adapters=low), first)
    assert not np.array_equal(linear_int8(rows, linear, adapters=low, adapter_of=np.ones(13, np.int32)), first)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("splits", [list(range(1, 37)), [1, 3, 6, 11, 18, 22, 36], [12, 24], [5, 5]])
def test_the_split_into_rows_changes_no_bit(isa, splits):
    rows, linear, then = quantize(isa, normal(37, 100)), layer(70, 100), after("gelu", 37, 70)
    low, of = [adapter(70, 100, 16), adapter(70, 100, 3)], (np.arange(37) // 5 % 3 - 1).astype(np.int32)
    whole = linear_int8(rows, linear, then, low, of)
    assert np.array_equal(linear_int8(rows, linear, then, low, of, splits), whole)


@pytest.mark.parametrize("isa", HERE)
def test_more_rows_than_stay_near_change_no_bit(isa):
    """Rows beyond what the second-level cache holds are taken in chunks."""
    rows, linear = quantize(isa, normal(800, 520)), layer(34, 520)
    assert np.array_equal(linear_int8(rows, linear), linear_int8(rows, linear, splits=list(range(50, 800, 50))))


@pytest.mark.parametrize("isa", HERE)
def test_y_may_be_its_own_residual(isa):
    rows, linear = quantize(isa, normal(13, 70)), layer(50, 70)
    residual = normal(13, 50, seed=4)
    expected = linear_int8(rows, linear, After("none", None, residual))
    y = residual.copy()
    after_ = ("none", 0, y.ctypes.data, 50)
    _native.linear_int8(
        isa=isa, x=rows.at, weights=linear.int8, after=after_, adapters=[], rows=13, y=y.ctypes.data, y_stride=50
    )
    assert np.array_equal(y, expected)


def test_what_does_not_fit_is_refused():
    rows, linear = quantize("scalar", normal(3, 70)), layer(48, 70)
    y = aligned(np.zeros((3, 48), np.float32))
    good = {"isa": "", "x": rows.at, "weights": linear.int8, "after": After().at, "adapters": [], "rows": 3}
    good |= {"y": y.ctypes.data, "y_stride": 48}
    code, stride, scale = rows.at
    a, b = adapter(48, 70, 16)
    for change, wrong in [
        ({"isa": "sse9"}, "no sse9"),
        ({"x": (code + 4, stride, scale)}, "aligned to 64"),
        ({"x": (code, 64, scale)}, "stride"),
        ({"x": (code, stride, 0)}, "scale is null"),
        ({"weights": (0, *linear.int8[1:])}, "weight is null"),
        ({"after": ("relu", 0, 0, 0)}, "activation"),
        ({"after": ("swiglu", 0, 0, 0)}, "multiple of 32"),
        ({"adapters": [(a.int8, a.int8)]}, "does not fit"),
        ({"adapter_of": scale}, "there are none"),
        ({"adapters": [(a.int8, b.int8)], "adapter_of": np.full(3, 1, np.int32).ctypes.data}, "that there is not"),
        ({"rows": -1}, "rows"),
    ]:
        with pytest.raises(ValueError, match=wrong):
            _native.linear_int8(**good | change)
    _native.linear_int8(**good)
