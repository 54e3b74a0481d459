"""The CUDA kernels on a card, against plain torch; the memory they are given is NaN before each call."""

from __future__ import annotations

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.cuda.attention import attention_bias
from edgefm.kernels.cuda.lora import lora_linear_int8, lora_linear_nf4
from edgefm.kernels.cuda.module import obstacle
from edgefm.kernels.ops.attention import attention
from edgefm.kernels.ops.frozen import Frozen
from edgefm.kernels.ops.lora import lora_linear

from .cuda_cases import attention_plain, attention_problem, dequantized, held, lora_plain, lora_problem

pytestmark = pytest.mark.gpu
TYPES = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def on_a_card(request):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (found := obstacle(device)) is not None:
        pytest.skip(found)
    bf16 = "dtype" in request.fixturenames and request.getfixturevalue("dtype") == torch.bfloat16
    if bf16 and torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("no bf16 before compute capability 8.0")


@pytest.fixture
def poison(monkeypatch):
    """`torch.empty` as the wrappers know it gives NaN, also for what they reuse."""

    def nan(*shape, dtype, device):
        if dtype == torch.uint8:
            return torch.full(shape, 255, dtype=dtype, device=device)
        return torch.full(shape, torch.nan, dtype=dtype, device=device)

    monkeypatch.setattr("edgefm.kernels.cuda.lora.empty", nan)
    monkeypatch.setattr("edgefm.kernels.cuda.attention.empty", nan)


def linear(kind, x, stored, state, bias, a, b, scale, activation="none"):
    if kind == "int8":
        return lora_linear_int8(x, stored, state[0], bias, a, b, scale, activation)
    return lora_linear_nf4(x, stored, state, bias, a, b, scale, activation)


SIZES = [(1, 64, 5, 1), (1, 1536, 6144, 16), (3, 768, 9, 16), (8, 1088, 131, 128), (9, 64, 7, 1), (37, 192, 130, 16)]
SIZES += [(197, 768, 3072, 16), (197, 3072, 768, 16), (261, 1536, 1537, 128), (197, 1216, 769, 1), (513, 1024, 1024, 0)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["nf4", "nf4-nested", "int8"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_lora_linear_is_as_right_as_plain_torch(poison, sizes, kind, dtype):
    x, stored, state, bias, a, b = lora_problem(*sizes, kind, dtype, "cuda")
    w = dequantized(stored, state, len(b))
    exact = lora_plain(x.double(), w, bias.double(), a.double(), b.double(), 0.5, "none")
    plain = lora_plain(x, w, bias, a, b, 0.5, "none")
    for _ in range(3):  # one after another without a pause: early launches must not overtake
        found = linear(kind, x, stored, state, bias, a, b, 0.5)
    held(found, plain, exact)


@pytest.mark.parametrize("rows", [2, 197])
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_the_activation_comes_last(poison, rows, activation):
    x, stored, state, _, a, b = lora_problem(rows, 768, 768, 16, "nf4", torch.float16, "cuda")
    w = dequantized(stored, state, 768)
    exact = lora_plain(x.double(), w, None, a.double(), b.double(), 2.0, activation)
    found = linear("nf4", x, stored, state, None, a, b, 2.0, activation)
    held(found, lora_plain(x, w, None, a, b, 2.0, activation), exact)


@pytest.mark.parametrize("rows", [1, 197])
def test_a_captured_graph_gives_the_same(rows):
    x, stored, state, bias, a, b = lora_problem(rows, 768, 768, 16, "nf4-nested", torch.float16, "cuda")
    expected = linear("nf4", x, stored, state, bias, a, b, 1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = linear("nf4", x, stored, state, bias, a, b, 1.0)
    for _ in range(3):
        found.fill_(torch.nan)
        graph.replay()
        assert torch.equal(found, expected)


@pytest.mark.parametrize("tokens", [1, 5, 37, 196, 197, 257, 577, 1024])
@pytest.mark.parametrize("size", [32, 64, 80, 128])
@pytest.mark.parametrize("bias", ["none", "full", "shared", "fp32", "holes"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_attention_is_as_right_as_plain_torch(poison, tokens, size, bias, dtype):
    for batch, heads in ((1, 3), (5, 16)):
        if batch > 1 and tokens > 600:
            continue
        q, k, v, b = attention_problem(batch, heads, tokens, size, bias, dtype, "cuda")
        scale = size**-0.5
        exact = attention_plain(q.double(), k.double(), v.double(), None if b is None else b.double(), scale)
        held(attention_bias(q, k, v, b), attention_plain(q, k, v, b, scale), exact)


def test_the_operators_run_on_it_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", "cuda")
    x, stored, state, bias, a, b = lora_problem(37, 768, 768, 16, "nf4-nested", torch.float16, "cuda")
    found = lora_linear(x, Frozen(stored, state), bias, a, b, 0.5)
    assert torch.equal(found, linear("nf4", x, stored, state, bias, a, b, 0.5))
    q, k, v, bias = attention_problem(2, 3, 197, 64, "shared", torch.float16, "cuda")
    assert torch.equal(attention(q, k, v, bias).out, attention_bias(q, k, v, bias))


def test_what_the_card_cannot_do_is_refused_before_it_is_asked():
    q = torch.zeros(1, 1, 3, 48, dtype=torch.float16, device="cuda")
    with pytest.raises(InputError, match="head_size"):
        attention_bias(q, q, q)
    x, stored, state, bias, a, b = lora_problem(2, 64, 8, 3, "int8", torch.float16, "cuda")
    with pytest.raises(InputError, match="multiple of 64"):
        linear("int8", x[:, :32], stored[:, :32].contiguous(), state, bias, a[:, :32].contiguous(), b, 1.0)
