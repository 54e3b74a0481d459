"""The CUDA kernels behind the operators: where they are chosen, where not and why, and that the answers are right.

No card: the module is pretended to be built, and its kernels run on the processor (`emulator/`).
"""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels import select
from edgefm.kernels.cuda import attention as cuda_attention
from edgefm.kernels.cuda import lora as cuda_lora
from edgefm.kernels.ops.attention import attend, attention
from edgefm.kernels.ops.frozen import Frozen, Layer
from edgefm.kernels.ops.lora import lora_linear
from edgefm.kernels.ops.lora_mlp import lora_mlp
from edgefm.kernels.reference import lora as reference

from .cuda_cases import attention_plain, attention_problem, dequantized, held, lora_plain, lora_problem
from .emulator.module import Module

CARD = torch.device("cuda")


@pytest.fixture(autouse=True)
def nothing_found_stays(monkeypatch):
    monkeypatch.delenv("EDGEFM_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    select._modules.cache_clear()
    yield
    select._modules.cache_clear()


@pytest.fixture
def card(monkeypatch):
    """A card of a compute capability, with the CUDA module built or not."""

    def pretend(major: int, minor: int, *, built: bool = True, triton: bool = True) -> None:
        spec = importlib.util.find_spec
        there = {"edgefm._cuda": built, "triton": triton}

        def find(name, package=None):
            return (there[name] or None) if name in there else spec(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (major, minor))

    return pretend


@pytest.fixture
def module(library, monkeypatch, card):
    """The processor as a card of 7.5 on which the module is built."""
    made = Module(library)
    card(7, 5)
    monkeypatch.setitem(sys.modules, "edgefm._cuda", made)
    monkeypatch.setattr("edgefm.kernels.cuda.module.obstacle", lambda device: None)
    for each in (cuda_attention, cuda_lora):
        monkeypatch.setattr(each, "where", lambda device: {"device": 0, "stream": 0})
    return made


def backends(device):
    return {each.operator: each.backend for each in select.table(device) if each.operator in ("attention", "lora")}


@pytest.mark.parametrize(
    ("capability", "built", "triton", "expected"),
    [
        ((7, 5), True, True, {"attention": "cuda", "lora": "cuda"}),
        ((7, 5), False, True, {"attention": "reference", "lora": "reference"}),
        ((7, 0), True, True, {"attention": "reference", "lora": "reference"}),
        ((8, 6), True, True, {"attention": "triton", "lora": "cuda"}),
        ((8, 6), True, False, {"attention": "cuda", "lora": "cuda"}),
        ((9, 0), False, True, {"attention": "triton", "lora": "triton"}),
        ((9, 0), False, False, {"attention": "reference", "lora": "reference"}),
    ],
)
def test_each_card_has_its_table_of_choices(card, capability, built, triton, expected):
    card(*capability, built=built, triton=triton)
    assert backends(CARD) == expected
    assert backends(torch.device("cpu")) == {"attention": "reference", "lora": "reference"}


def test_the_table_says_what_for_what_else_and_why(card):
    card(7, 5)
    told = {each.operator: each.reason for each in select.table(CARD)}
    assert told["lora"].startswith("inference on an int8 or NF4 base")
    assert told["lora"].endswith("else reference: not triton: compute capability 7.5 has no matrix instructions in Triton")
    card(8, 6)
    told = {each.operator: each.reason for each in select.table(CARD)}
    assert told["lora"].endswith("else triton: the fastest here")
    card(7, 5, built=False)
    assert "not cuda: the CUDA module is not built" in select.choose("lora", CARD).reason


def test_doctor_shows_it(card, monkeypatch):
    from edgefm.doctor import describe, examine

    card(7, 5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    lines = [" ".join(line.split()) for line in describe(examine())]
    assert any(
        line.startswith("kernel attention: cuda (inference of the output alone, up to 1,024 tokens; else ref") for line in lines
    )


def asked(rows=3, inner=64, rank=4, kind="nf4", dtype=torch.float16, **other):
    """A call of lora as `refuses` takes it."""
    x, stored, state, bias, a, b = lora_problem(rows, inner, 8, rank, kind, dtype)
    base = Frozen(stored, state)._replace(**{k: v for k, v in other.items() if k in Frozen._fields})
    return x, (Layer(base, bias, a[None], b[None]),), other.get("index"), other.get("p", 0.0)


REFUSED = {
    "dropout": {"p": 0.1},
    "adapter for each row": {"index": torch.zeros(3, dtype=torch.int32)},
    "no torch.float32": {"dtype": torch.float32},
    "no torch.bfloat16": {"dtype": torch.bfloat16},
    "1,025 rows are more than 1,024": {"rows": 1025},
    "neither int8 nor NF4": {"state": ()},
    "blocks of 64": {"block": 128},
    "rank 129 is more than 128": {"rank": 129},
    "32 inputs are no multiple of 64": {"inner": 32, "kind": "int8"},
}


@pytest.mark.parametrize(("why", "call"), REFUSED.items(), ids=REFUSED.keys())
def test_a_call_that_it_does_not_take_goes_to_the_next_and_the_reason_is_told(card, why, call):
    card(7, 5)
    assert select.choose("lora", CARD, asked()).backend == "cuda"
    choice = select.choose("lora", CARD, asked(**call))
    assert choice.backend == "reference"
    assert why in choice.reason
    assert "not triton" in choice.reason
    assert ("inputs" in choice.reason, "rank" in choice.reason) == ("inner" in call, "rank" in call)  # nothing else is blamed


def test_where_triton_runs_it_takes_few_rows_only(card):
    card(8, 6)
    assert [select.choose("lora", CARD, asked(rows)).backend for rows in (8, 9)] == ["cuda", "triton"]
    assert select.choose("lora", CARD, asked(dtype=torch.bfloat16)).backend == "cuda"
    assert select.choose("lora", CARD).backend == "triton"  # any call: also one that wants a gradient


def test_who_asks_for_it_by_name_has_it_for_more_rows_than_it_is_fast_for(card, monkeypatch):
    card(8, 6)
    monkeypatch.setenv("EDGEFM_KERNELS", "lora=cuda")
    assert select.choose("lora", CARD, asked(9)).backend == "cuda"
    assert select.implementation("lora", CARD, asked(9)) is cuda_lora


@pytest.mark.parametrize(
    ("why", "shape", "dtype", "bias"),
    [
        ("1,025 tokens", (1, 1, 1025, 32), "float16", None),
        ("heads of 48", (1, 1, 5, 48), "float16", None),
        ("65,536 images", (65536, 1, 1, 32), "float16", None),
        ("no torch.float32", (1, 1, 5, 32), "float32", None),
        ("no torch.bfloat16", (1, 1, 5, 32), "bfloat16", None),
        ("no bias of torch.bfloat16", (1, 1, 5, 32), "float16", "bfloat16"),
    ],
)
def test_attention_that_it_does_not_take_goes_to_the_next(card, why, shape, dtype, bias):
    card(7, 5)
    fits = torch.empty(1, 1, 5, 32, dtype=torch.float16)
    assert select.choose("attention", CARD, (fits, None)).backend == "cuda"
    n = shape[2]
    given = (
        torch.empty(shape, dtype=getattr(torch, dtype)),
        None if bias is None else torch.empty(1, 1, n, n, dtype=getattr(torch, bias)),
    )
    choice = select.choose("attention", CARD, given)
    assert choice.backend == "reference"
    assert why in choice.reason


@pytest.mark.parametrize("kind", ["nf4", "nf4-nested", "int8"])
@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_a_layer_without_a_gradient_runs_on_it_and_is_right(module, kind, activation):
    x, stored, state, bias, a, b = lora_problem(5, 64, 11, 4, kind, torch.float16)
    w = dequantized(stored, state, 11)
    found = lora_linear(x.view(5, 1, 64), Frozen(stored, state), bias.float(), a.float(), b.float(), 0.5, 0.0, activation)
    assert module.called == [kind.partition("-")[0]]
    exact = lora_plain(x.double(), w, bias.double(), a.double(), b.double(), 0.5, activation)
    held(found.view(5, 11), lora_plain(x, w, bias, a, b, 0.5, activation), exact)


@pytest.mark.parametrize("activation", ["gelu", "swiglu", "glu"])
def test_an_mlp_without_a_gradient_runs_on_it_and_is_right(module, activation):
    gated = activation != "gelu"
    x, *first = lora_problem(5, 64, 128 if gated else 64, 4, "nf4", torch.float16)
    _, *second = lora_problem(5, 64, 8, 3, "int8", torch.float16)
    layers = [(Frozen(stored, state), bias, a, b) for stored, state, bias, a, b in (first, second)]
    found = lora_mlp(x, *layers[0], *layers[1], 0.5, activation=activation)
    assert module.called == ["nf4", "int8"]
    results = []
    for dtype in (torch.float16, torch.float64):
        made = [Layer(base, bias.to(dtype), a[None].to(dtype), b[None].to(dtype)) for base, bias, a, b in layers]
        results.append(reference.mlp(x.to(dtype), *made, None, None, 0.5, 0.0, activation)[0])
    held(found, *results)


@pytest.mark.parametrize("bias", ["full", "shared", "fp32", "holes"])
def test_attention_without_a_gradient_runs_on_it_and_is_right(module, bias):
    q, k, v, b = attention_problem(2, 2, 37, 32, bias, torch.float16)
    found = attention(q, k, v, b)
    assert module.called == ["attention"]
    assert found[1:] == (None, None, None)
    assert found.out.transpose(1, 2).is_contiguous()
    exact = attention_plain(q.double(), k.double(), v.double(), b.double(), 32**-0.5)
    held(found.out, attention_plain(q, k, v, b, 32**-0.5), exact)


def test_a_mask_of_keys_is_read_without_a_copy(module):
    q, k, v, _ = attention_problem(2, 2, 37, 32, "none", torch.float16)
    mask = torch.zeros(2, 1, 1, 37, dtype=torch.float16)
    mask[0, ..., 30:] = -torch.inf
    bias = mask.expand(-1, -1, 37, -1)
    exact = attention_plain(q.double(), k.double(), v.double(), bias.double(), 32**-0.5)
    held(attention(q, k, v, bias).out, attention_plain(q, k, v, bias, 32**-0.5), exact)
    assert module.called == ["attention"]


def test_with_a_gradient_or_more_than_the_output_the_next_one_runs(module):
    x, stored, state, bias, a, b = lora_problem(3, 64, 8, 4, "nf4", torch.float16)
    lora_linear(x, Frozen(stored, state), bias, a.requires_grad_(), b).sum().backward()
    lora_mlp(
        x.requires_grad_(), Frozen(stored, state), bias, a, b, torch.zeros(4, 8).half(), None, a[:, :8], b[:4]
    ).sum().backward()
    q, k, v, bias = attention_problem(1, 2, 5, 32, "shared", torch.float16)
    attention(q, k, v, bias.requires_grad_()).out.sum().backward()
    with torch.no_grad():
        attention(q, k, v, bias, want_lse=True)
        attention(q, k, v, bias, want_importance=True)
        attention(q, k, v, bias, want_cls_row=True)
    assert not module.called
    with torch.no_grad():
        lora_linear(x, Frozen(stored, state), None, a, b)
        attention(q, k, v, bias)
    assert module.called == ["nf4", "attention"]


def test_who_asks_for_it_by_name_is_told_what_it_does_not_take(module, monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", "cuda")
    x, stored, state, bias, a, b = lora_problem(3, 64, 8, 4, "nf4", torch.float16)
    assert lora_linear(x, Frozen(stored, state), bias, a, b).shape == (3, 8)
    assert select.table(torch.device("cpu"))[-1].reason.startswith("EDGEFM_KERNELS says so; it serves inference")
    with pytest.raises(InputError, match="asks for cuda, but it serves inference on an int8 or NF4 base"):
        lora_linear(x, Frozen(stored, state), bias, a.requires_grad_(), b)
    with pytest.raises(InputError, match="asks for cuda, but it has no dropout"):
        lora_linear(x, Frozen(stored, state), bias, a.detach(), b, dropout_p=0.1)


@torch.no_grad()
def test_the_operators_are_sound_for_torch_on_it(module):
    x, stored, state, bias, a, b = lora_problem(3, 64, 64, 4, "nf4-nested", torch.float16)
    one = (stored, list(state), 64, 256, bias, a[None], b[None])
    torch.library.opcheck(torch.ops.edgefm.lora_linear.default, (x, *one, None, None, 1.0, 0.0, "gelu", False))
    torch.library.opcheck(torch.ops.edgefm.lora_mlp.default, (x, *one, *one, None, None, 1.0, 0.0, "gelu", False))
    q, k, v, bias = attention_problem(1, 2, 5, 32, "shared", torch.float16)
    torch.library.opcheck(attend, (q, k, v, bias, 0.2, False, False, False))
    assert {"nf4", "attention"} == set(module.called)


@torch.no_grad()
def test_a_compiled_graph_runs_on_it(module):
    x, stored, state, bias, a, b = lora_problem(3, 64, 8, 4, "int8", torch.float16)
    q, k, v, table = attention_problem(1, 2, 5, 32, "shared", torch.float16)

    def run(x, q):
        return lora_linear(x, Frozen(stored, state), bias, a, b), attention(q, k, v, table).out

    expected = run(x, q)
    module.called.clear()
    found = torch.compile(run, fullgraph=True, backend="aot_eager")(x, q)
    assert module.called == ["int8", "attention"]
    for mine, true in zip(found, expected, strict=True):
        assert torch.equal(mine, true)
