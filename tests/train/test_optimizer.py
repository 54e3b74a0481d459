"""The learning rate over a run, and which weights decay."""

from __future__ import annotations

import pytest
from torch import nn

from edgefm.train.optimizer import learning_rate, make_optimizer


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
