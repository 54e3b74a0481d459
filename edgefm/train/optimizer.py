"""AdamW and its learning rate. Not a choice of optimizers: one, whose settings are in the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi

import torch
from torch import nn

CLIP = 1.0  # largest norm of all gradients together


def make_optimizer(
    module: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    scales: Mapping[str, float] = {},
    beside: nn.Module | None = None,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over all weights of `module` and `beside` that want a gradient.

    Weights with one dimension (biases, norms) do not decay: pulling them to 0 regularises nothing.

    Args:
        scales: factor of the learning rate by name of a parameter of `module`, 0 to 1, else 1; 0 leaves it out.
        beside: learns at the whole rate.

    Raises:
        ValueError: a factor out of range, or of a parameter that `module` has not.
    """
    named = dict(module.named_parameters())
    wrong = [name for name, factor in scales.items() if name not in named or not 0 <= factor <= 1]
    if wrong:
        raise ValueError(f"scales: {wrong[0]} = {scales[wrong[0]]} is no parameter's factor from 0 to 1")
    weights = [(weight, scales.get(name, 1.0)) for name, weight in named.items()]
    weights += [(weight, 1.0) for weight in beside.parameters()] if beside is not None else []
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for weight, factor in weights:
        if weight.requires_grad and factor:
            groups.setdefault((weight.ndim > 1, factor), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": group, "weight_decay": weight_decay if decays else 0.0, "scale": factor}
            for (decays, factor), group in groups.items()
        ],
        lr=lr,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let each group learn at `rate` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def learning_rate(step: int, steps: int, *, peak: float, warmup: float) -> float:
    """Linear warm-up to `peak`, then half a cosine down to 0 (Loshchilov and Hutter 2017).

    Args:
        step: 0 to steps - 1. warmup: share of the steps that warm up, 0 to 1.
    """
    rising = warmup * steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * (1 + cos(pi * (step - rising) / max(1.0, steps - rising))) / 2
