"""Operators as plain tensors call them: the same answers as through torch.library, and no wrong second derivative."""

from __future__ import annotations

import pytest
import torch

from edgefm.kernels.ops import attention, attention_kl, lora, lora_mlp


@pytest.fixture(params=["reference", "triton"], autouse=True)
def backend(request, monkeypatch):
    """fp64 in the reference; fp32 in Triton's interpreter."""
    if request.param == "triton":
        pytest.importorskip("triton")
        if torch.cuda.is_available():
            pytest.skip("here is a GPU: Triton compiles, its interpreter is not used")
        monkeypatch.setenv("EDGEFM_KERNELS", "attention=triton,attention_kl=triton,lora=triton")
        monkeypatch.setitem(globals(), "WIDE", torch.float32)


WIDE = torch.float64


def numbers(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=WIDE, requires_grad=True)


def attend() -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = [numbers(2, 3, 5, 8) for _ in range(3)]
    found = attention.attention(*inputs, want_lse=True, want_cls_row=True)
    return found.out.square().sum() + found.lse.sum() + found.cls_row.square().sum(), inputs


def diverge() -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = [numbers(2, 3, 5, 8) for _ in range(2)]
    return attention_kl.attention_kl(*inputs, numbers(2, 2, 5, 4), numbers(2, 2, 5, 4)), inputs


def adapt() -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = [numbers(5, 8), numbers(2, 8), numbers(6, 2)]
    x, a, b = inputs
    return lora.lora_linear(x, numbers(6, 8).detach(), None, a, b, 2.0, 0.3, seed=torch.tensor([1])).square().sum(), inputs


def adapt_both() -> tuple[torch.Tensor, list[torch.Tensor]]:
    inputs = [numbers(5, 8), numbers(2, 8), numbers(6, 2), numbers(2, 6), numbers(4, 2)]
    x, a1, b1, a2, b2 = inputs
    first, second = (numbers(6, 8).detach(), None, a1, b1), (numbers(4, 6).detach(), None, a2, b2)
    return lora_mlp.lora_mlp(x, *first, *second, 2.0, 0.3, seed=torch.tensor([1])).square().sum(), inputs


EACH = pytest.mark.parametrize("call", [attend, diverge, adapt, adapt_both])


@EACH
def test_the_librarys_way_answers_the_same(call, monkeypatch):
    torch.manual_seed(0)
    value, inputs = call()
    found = [value, *torch.autograd.grad(value, inputs)]
    for module in (attention, attention_kl, lora, lora_mlp):
        monkeypatch.setattr(module, "plain", lambda *_: False)
    torch.manual_seed(0)
    value, inputs = call()
    assert all(map(torch.equal, found, [value, *torch.autograd.grad(value, inputs)]))


@EACH
def test_a_second_derivative_is_refused_not_taken_for_zero(call):
    value, inputs = call()
    first, *_ = torch.autograd.grad(value, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        first.sum().backward()


@EACH
def test_without_gradients_nothing_is_kept(call):
    with torch.no_grad():
        value, _ = call()
    assert not value.requires_grad


@EACH
def test_what_traces_or_watches_operators_sees_them(call):
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, arguments=(), options=None):
            seen.add(operator.namespace)
            return operator(*arguments, **options or {})

    with Watch():
        value, inputs = call()
    assert "edgefm" in seen
    assert all(found is not None for found in torch.autograd.grad(value, inputs))


def test_a_weight_and_a_bias_that_would_learn_are_frozen_all_the_same():
    x, weight, bias, a, b = (numbers(*size) for size in ((5, 8), (6, 8), (6,), (2, 8), (6, 2)))
    x, a, b = x.detach(), a.detach(), b.detach()
    assert not lora.lora_linear(x, weight, bias, a, b).requires_grad
    second = numbers(4, 6), numbers(4), numbers(2, 6).detach(), numbers(4, 2).detach()
    assert not lora_mlp.lora_mlp(x, weight, bias, a, b, *second).requires_grad
    a.requires_grad_()
    lora.lora_linear(x, weight, bias, a, b).sum().backward()
    assert a.grad is not None
    assert weight.grad is None
