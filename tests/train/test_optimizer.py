"""The learning rate over a run, and which weights decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgefm.train.optimizer import learning_rate, make_optimizer, set_rate


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [learning_rate(step, 1000, peak=2.0, warmup=0.1) for step in range(1000)]
    assert 0 < rates[0] < 0.03
    assert max(rates) == rates[100] == 2.0
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[550] == pytest.approx(1.0)
    assert 0 < rates[-1] < 1e-4


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.05), (1, 0.0), (1, 1.0), (2, 1.0), (3, 0.5)])
def test_the_shortest_runs_learn_at_every_step(steps: int, warmup: float) -> None:
    assert all(0 < learning_rate(step, steps, peak=1.0, warmup=warmup) <= 1 for step in range(steps))


def test_norms_and_biases_do_not_decay() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    decay = {
        id(w): group["weight_decay"]
        for group in make_optimizer(module, lr=1.0, weight_decay=0.5).param_groups
        for w in group["params"]
    }
    assert {name: decay[id(weight)] for name, weight in module.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0,
        "1.weight": 0,
        "1.bias": 0,
        "2.weight": 0.5,
        "2.bias": 0,
    }


def test_frozen_weights_are_left_out() -> None:
    module = nn.Linear(2, 3, bias=False)
    frozen = nn.Linear(2, 3).requires_grad_(False)
    groups = make_optimizer(nn.Sequential(module, frozen), lr=1.0, weight_decay=0.5).param_groups
    assert [len(group["params"]) for group in groups] == [1]


def test_a_layer_learns_at_its_own_rate_and_a_frozen_one_not_at_all() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2), nn.Linear(2, 1))
    module[3].requires_grad_(False)
    beside = nn.Linear(2, 2)
    scales = {"0.weight": 0.25, "0.bias": 0.25, "1.weight": 0.0, "1.bias": 0.0}
    optimizer = make_optimizer(module, lr=9.0, weight_decay=0.0, scales=scales, beside=beside)
    set_rate(optimizer, 0.1)
    before = [weight.detach().clone() for weight in (*module.parameters(), *beside.parameters())]
    for weight in (*module.parameters(), *beside.parameters()):
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    moved = [(old - new).mean().item() for old, new in zip(before, (*module.parameters(), *beside.parameters()))]
    wanted = [0.025, 0.025, 0, 0, 0.1, 0.1, 0, 0, 0.1, 0.1]  # AdamW's first step has the size of the rate
    assert moved == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("scales", [{"0.weight": 1.5}, {"0.weight": -0.1}, {"head": 0.5}, {"0.weight": float("nan")}], ids=str)
def test_a_scale_that_cannot_be_is_refused(scales: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="scales"):
        make_optimizer(nn.Sequential(nn.Linear(2, 3)), lr=1.0, weight_decay=0.5, scales=scales)
