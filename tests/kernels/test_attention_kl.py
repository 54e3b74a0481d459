"""Attention distillation: the formula, its gradients, and that every backend computes it.

Without a GPU the kernels run in Triton's interpreter. It misreads bf16, so there bf16 goes in as fp32 and the product of bf16
itself is tested on a GPU only.
"""

from __future__ import annotations

import os

import pytest
import torch

from edgefm.errors import InputError
from edgefm.kernels.ops import attention_kl as ops
from edgefm.kernels.ops.attention_kl import attention_kl, relation_kl

from . import attention_kl_checks as checks

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="a GPU is here, or TRITON_INTERPRET is not 1")
HALVES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"])


def named(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 32, so that 37 tokens are two of them and the last is ragged."""
    from edgefm.kernels.triton import attention_kl as module

    monkeypatch.setattr(module, "tile", lambda *_: module.Tile(32, 32, 4, 1))


@interpreted
@named(checks.CASES)
def test_interpreter_short(case, monkeypatch, small_tiles):
    checks.hold(case, "cpu", torch.float32, monkeypatch, "triton")


@interpreted
def test_interpreter_short_relations(monkeypatch, small_tiles):
    checks.hold_relation("cpu", torch.float32, monkeypatch, "triton")


@interpreted
@HALVES
@named(checks.SMALL)
def test_interpreter_small_heads(case, dtype, monkeypatch):
    checks.hold(case, "cpu", dtype, monkeypatch, "triton")


@interpreted
@named({name: case for name, case in checks.CASES.items() if case.tokens < 37 or case.kind in ("equal", "outlier")})
def test_interpreter_short_in_fp16(case, monkeypatch, small_tiles):
    checks.hold(case, "cpu", torch.float16, monkeypatch, "triton")


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@named(checks.CASES)
def test_interpreter_long_halves(case, dtype, monkeypatch, small_tiles):
    checks.hold(case, "cpu", dtype, monkeypatch, "triton")


@interpreted
@pytest.mark.slow
@named(checks.LONG)
def test_interpreter_long(case, monkeypatch):
    checks.hold(case, "cpu", torch.float32, monkeypatch, "triton")


@pytest.mark.gpu
@HALVES
@named(checks.CASES | checks.SMALL | checks.LONG | checks.GPU)
def test_on_a_gpu(case, dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    checks.hold(case, "cuda", dtype, monkeypatch, "triton")


@pytest.mark.gpu
def test_relations_on_a_gpu(monkeypatch):
    checks.hold_relation("cuda", torch.float32, monkeypatch, "triton")


@pytest.mark.gpu
@pytest.mark.parametrize("heads", ["mean", "pairs"])
def test_four_times_the_tokens_take_four_times_the_memory(heads):
    small, large = (
        checks.memory_is_linear(checks.Case(n, heads, (6, 64), (6, 64), images=4), torch.bfloat16) for n in (512, 2048)
    )
    assert large < 5 * small


@pytest.mark.gpu
@pytest.mark.parametrize("heads", ["mean", "pairs"])
def test_twice_on_a_gpu_is_the_same_to_the_bit(heads):
    case = checks.Case(261, heads, (3, 64), (3, 64))
    of = checks.tensors(case, "cuda", torch.bfloat16)
    for first, second in zip(checks.run(case, of, torch.bfloat16), checks.run(case, of, torch.bfloat16)):
        assert torch.equal(first, second)


DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@DEVICES
@pytest.mark.parametrize("heads", ["mean", [1, 0]])
def test_torch_knows_the_operator(heads, device):
    case = checks.Case(11, heads, (2, 16), (3, 16))
    q, k, *teacher = checks.tensors(case, device, torch.float32)
    pairs = [] if heads == "mean" else heads
    lengths = torch.tensor([11, 4], device=device, dtype=torch.int32)
    inputs = (q.requires_grad_(), k.requires_grad_(), *teacher, lengths, pairs, 0.25, 0.25)
    for need in (True, False):
        of = inputs if need else tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in inputs)
        torch.library.opcheck(ops._attention_kl, (*of, need))


@DEVICES
@pytest.mark.parametrize("heads", ["mean", [1, 0]])
def test_it_compiles_into_one_graph(heads, device):
    case = checks.Case(11, heads, (2, 16), (3, 16))
    q, k, *teacher = checks.tensors(case, device, torch.float32)

    def step(q, k):
        return attention_kl(q * 2, k, *teacher, 2.0, heads=heads)

    grads = []
    for call in (step, torch.compile(step, fullgraph=True, backend="inductor" if device == "cuda" else "aot_eager")):
        leaves = [x.detach().clone().requires_grad_() for x in (q, k)]
        call(*leaves).backward()
        grads.append([x.grad for x in leaves])
    for eager, compiled in zip(*grads):
        torch.testing.assert_close(eager, compiled)


@pytest.mark.parametrize("lengths", [None, (0, 4)])
@pytest.mark.parametrize("heads", ["mean", [1, 1]])
def test_the_gradient_is_that_of_the_value(heads, lengths):
    case = checks.Case(5, heads, (2, 3), (3, 4))
    q, k, *teacher = checks.tensors(case, "cpu", torch.float64)
    valid = None if lengths is None else torch.tensor(lengths)
    assert torch.autograd.gradcheck(
        lambda q, k: attention_kl(q, k, *teacher, 1.5, heads=heads, lengths=valid), (q.requires_grad_(), k.requires_grad_())
    )


@pytest.mark.parametrize("heads", ["mean", "pairs"])
def test_it_is_torchs_own_divergence_of_softmax_maps(heads):
    case = checks.Case(37, heads, (3, 16), (3, 16))
    q_s, k_s, q_t, k_t = checks.tensors(case, "cpu", torch.float64)
    s, t = ((q @ k.mT / 4 / 2).softmax(-1) for q, k in ((q_s, k_s), (q_t, k_t)))
    if heads == "mean":
        s, t = s.mean(1), t.mean(1)
    expected = torch.nn.functional.kl_div(s.log(), t, reduction="none").sum(-1).mean()
    torch.testing.assert_close(attention_kl(q_s, k_s, q_t, k_t, 2.0, heads=heads), expected)


def test_tokens_beyond_an_images_length_change_nothing_and_get_no_gradient():
    case = checks.Case(9, lengths=(4, 4))
    q, k, *teacher = checks.tensors(case, "cpu", torch.float32)
    _, dq, dk = checks.run(case, [q, k, *teacher], torch.float32)
    assert not dq[:, :, 4:].any()
    assert not dk[:, :, 4:].any()
    short = [x[:, :, :4] for x in (q, k, *teacher)]
    value = attention_kl(q, k, *teacher, lengths=torch.tensor([4, 4]))
    torch.testing.assert_close(value, attention_kl(*short))


@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=interpreted)])
@pytest.mark.parametrize("heads", ["mean", "pairs"])
def test_lengths_beyond_the_tokens_are_all_of_them_and_below_zero_none(heads, backend, monkeypatch):
    monkeypatch.setenv("EDGEFM_KERNELS", f"attention_kl={backend}")
    of = checks.tensors(checks.Case(5, "pairs", (2, 16), (2, 16)), "cpu", torch.float32)
    odd, said = (attention_kl(*of, heads=heads, lengths=torch.tensor(each)) for each in ([99, -3], [5, 0]))
    assert torch.equal(odd, said)


def test_no_graph_is_made_where_nothing_needs_a_gradient():
    of = checks.tensors(checks.Case(5), "cpu", torch.float32)
    assert not attention_kl(*of).requires_grad
    of[2].requires_grad_()
    assert not attention_kl(*of).requires_grad


def test_what_does_not_fit_is_refused():
    q_s, k_s, q_t, k_t = checks.tensors(checks.Case(5), "cpu", torch.float32)
    for heads in ("pairs", [0], [0, 3], [0, -1], "mean of all"):
        with pytest.raises(InputError, match="heads"):
            attention_kl(q_s, k_s, q_t, k_t, heads=heads)
    with pytest.raises(InputError, match="temperature"):
        attention_kl(q_s, k_s, q_t, k_t, 0.0)
    with pytest.raises(InputError, match="as many images and tokens"):
        attention_kl(q_s, k_s, q_t[:, :, :4], k_t[:, :, :4])
    with pytest.raises(InputError, match="lengths"):
        attention_kl(q_s, k_s, q_t, k_t, lengths=torch.tensor([1]))
    with pytest.raises(InputError, match=r"float32; expected .*int32 or int64"):
        attention_kl(q_s, k_s, q_t, k_t, lengths=torch.tensor([1.5, 2.0]))
    with pytest.raises(InputError, match="tensors on cpu, meta; expected one device"):
        attention_kl(q_s, k_s, q_t.to("meta"), k_t.to("meta"))
    with pytest.raises(InputError, match="the student's q"):
        attention_kl(q_s, k_s.half(), q_t, k_t)
    with pytest.raises(InputError, match="5 relation heads"):
        relation_kl(q_s, q_t, 5)
