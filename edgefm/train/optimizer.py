"""AdamW and its learning rate. Not a choice of optimizers: one, whose settings are in the recipe."""

from __future__ import annotations

from math import cos, pi

import torch
from torch import nn

CLIP = 1.0  # largest norm of all gradients together


def make_optimizer(module: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over all weights that want a gradient.

    Weights with one dimension (biases, norms) do not decay: pulling them to 0 regularises nothing.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=True)


def learning_rate(step: int, steps: int, *, peak: float, warmup: float) -> float:
    """Linear warm-up to `peak`, then half a cosine down to 0 (Loshchilov and Hutter 2017).

    Args:
        step: 0 to steps - 1. warmup: share of the steps that warm up, 0 to 1.
    """
    rising = warmup * steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * (1 + cos(pi * (step - rising) / max(1.0, steps - rising))) / 2
