"""Kernels are launched on the card that their tensors lie on, not on the one that happens to be current."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch


def test_the_card_of_the_first_tensor_is_current_while_the_kernels_run(monkeypatch):
    pytest.importorskip("triton")
    from edgefm.kernels.triton import attention_kl, lora
    from edgefm.kernels.triton.card import on_its_card

    current = ["cuda:0"]

    @contextmanager
    def device(which):
        current.append(which)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    there = SimpleNamespace(is_cuda=True, device="cuda:1")
    assert on_its_card(lambda x, more: (current[-1], more))(there, more=2) == ("cuda:1", 2)
    assert on_its_card(lambda x: current[-1])(torch.zeros(1)) == "cuda:0"
    entries = [getattr(lora, name) for name in ("linear", "linear_backward", "mlp", "mlp_backward")]
    entries += [attention_kl.attention_kl, attention_kl.attention_kl_backward]
    assert all(hasattr(each, "__wrapped__") for each in entries)
