"""The operator for int8 linear layers: C++ and plain torch against each other and against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgefm.errors import InputError
from edgefm.export import native_pack
from edgefm.kernels.ops.linear_int8 import ACTIVATIONS, Adapter, linear_int8, pack
from edgefm.kernels.select import choose

K, N = 70, 96


@pytest.fixture(params=["cpu", "reference"])
def backend(request, monkeypatch) -> str:
    if request.param == "cpu":
        pytest.importorskip("edgefm._native")
    monkeypatch.setenv("EDGEFM_KERNELS", f"linear_int8={request.param}")
    return request.param


def normal(*shape, seed=0, scale=1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def layer(n=N, k=K, rank=8, many=2):
    return (
        normal(n, k, seed=1, scale=k**-0.5),
        normal(n, seed=2),
        [(normal(rank, k, seed=3 + i, scale=k**-0.5), normal(n, rank, seed=30 + i, scale=0.3)) for i in range(many)],
    )


def packed(adapters):
    return [Adapter(pack(a), pack(b)) for a, b in adapters]


def nmse(y, reference) -> float:
    return ((y - reference).square().sum() / reference.square().sum()).item()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rank", [1, 16, 64])
def test_against_float64(backend, activation, rank):
    weight, bias, adapters = layer(rank=rank)
    x, index = normal(37, K), torch.arange(37, dtype=torch.int32) % 3 - 1
    width = N // 2 if activation == "swiglu" else N
    gamma, residual = normal(width, seed=7), normal(37, width, seed=8)
    y = linear_int8(x, pack(weight), bias, activation, gamma, residual, packed(adapters), index)
    z = x.double() @ weight.double().T + bias.double()
    for i, (a, b) in enumerate(adapters):
        z = z + torch.where((index == i)[:, None], x.double() @ a.double().T @ b.double().T, 0)
    if activation == "swiglu":
        gate, value = z.unflatten(1, (-1, 2, 16)).unbind(2)
        z = (torch.nn.functional.silu(gate) * value).flatten(1)
    elif activation != "none":
        z = torch.nn.functional.gelu(z, approximate="tanh" if activation == "gelu_tanh" else "none")
    assert nmse(y, z * gamma + residual) <= 3e-4


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_cpp_gives_what_torch_gives(monkeypatch, activation):
    pytest.importorskip("edgefm._native")
    weight, bias, adapters = layer()
    arguments = (normal(50, K), pack(weight), bias, activation)
    found = {}
    for word in ("cpu", "reference"):
        monkeypatch.setenv("EDGEFM_KERNELS", f"linear_int8={word}")
        found[word] = linear_int8(*arguments, adapters=packed(adapters))
    assert (found["cpu"] - found["reference"]).abs().max() <= 3e-6 * found["reference"].abs().max()


def test_the_weights_are_packed_as_bundles_are():
    weight = normal(37, 70, seed=5)
    weight[3] = 0
    ours, theirs = pack(weight), native_pack.pack_int8(weight.numpy())
    assert np.array_equal(ours.codes, theirs.codes)
    assert np.array_equal(ours.total, theirs.sum)
    assert np.array_equal(ours.scale, theirs.scale)


def test_a_row_that_is_not_finite_is_nan_and_spoils_no_other(backend):
    weight, bias, _ = layer()
    x = normal(5, K)
    clean = linear_int8(x, pack(weight), bias)
    x[1, 69], x[3, 0] = torch.nan, -torch.inf
    y = linear_int8(x, pack(weight), bias)
    assert y[[1, 3]].isnan().all()
    assert y[[0, 2, 4]].equal(clean[[0, 2, 4]])


def test_it_keeps_torchs_rules(backend):
    weight, bias, adapters = layer()
    low = [t for adapter in packed(adapters) for part in adapter for t in part[:3]]
    arguments = (normal(5, K), *pack(weight)[:3], N, bias, "gelu", None, None, low, [8, 8], None)
    torch.library.opcheck(torch.ops.edgefm.linear_int8.default, arguments, test_utils=("test_schema", "test_faketensor"))


def test_it_compiles_in_one_graph(backend):
    weight, bias, _ = layer()
    w = pack(weight)
    compiled = torch.compile(lambda x: linear_int8(x, w, bias) * 2, fullgraph=True, backend="eager")
    assert compiled(normal(5, K)).equal(linear_int8(normal(5, K), w, bias) * 2)


def test_no_rows_give_no_rows(backend):
    assert linear_int8(normal(0, K), pack(layer()[0])).shape == (0, N)


def test_it_runs_in_cpp_where_that_is_built():
    pytest.importorskip("edgefm._native")
    assert choose("linear_int8", torch.device("cpu")).backend == "cpu"
    assert choose("linear_int8", torch.device("meta")).backend == "reference"


@pytest.mark.parametrize(
    "change",
    [
        {"x": normal(5, K + 1)},
        {"x": normal(5, K).double()},
        {"bias": normal(N + 1)},
        {"activation": "relu"},
        {"weight": pack(normal(48, K)), "activation": "swiglu"},
        {"adapters": [Adapter(pack(normal(65, K)), pack(normal(N, 65)))]},
        {"adapters": [Adapter(pack(normal(8, K)), pack(normal(N, 9)))]},
        {"adapter_of": torch.zeros(5, dtype=torch.int32)},
        {"residual": normal(5, N - 1)},
    ],
    ids=["K", "fp64", "bias", "word", "ragged swiglu", "rank 65", "factors", "index without adapters", "residual"],
)
def test_what_does_not_fit_is_refused(change):
    arguments = {"x": normal(5, K), "weight": pack(layer()[0])} | change
    with pytest.raises(InputError):
        linear_int8(**arguments)
