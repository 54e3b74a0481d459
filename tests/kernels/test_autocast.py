"""Autocast rounds what goes into an operator, and no product on the way."""

from __future__ import annotations

import pytest
import torch

from edgefm.kernels.ops.attention import attention
from edgefm.kernels.ops.attention_kl import attention_kl


def attend(q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
    q, k = q.bfloat16(), k.bfloat16()
    found = attention(q, k, k, want_lse=True)
    assert found.lse is not None
    return [found.out.float(), found.lse]


def diverge_in_mean(q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
    return [attention_kl(q, k, 2 * q.detach(), k.detach())]


def diverge_in_pairs(q: torch.Tensor, k: torch.Tensor) -> list[torch.Tensor]:
    return [attention_kl(q, k, 2 * q.detach(), k.detach(), heads=[1, 0])]


@pytest.mark.parametrize("call", [attend, diverge_in_mean, diverge_in_pairs])
def test_what_autocast_would_not_round_going_in_is_the_same_with_and_without_it(call):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, 5, 16, generator=generator).requires_grad_() for _ in range(2))
    told = []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            answers = call(q, k)
            told.append([*answers, *torch.autograd.grad(sum(each.square().sum() for each in answers), (q, k))])
    assert all(map(torch.equal, *told))
