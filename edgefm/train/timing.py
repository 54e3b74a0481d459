"""How long an image takes here, from a few real steps: what a dry run multiplies. Not the plan: each verb has its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.loaded import LoadedModel
from ..spec.recipe import TrainRecipe
from .images import Images
from .optimizer import make_optimizer
from .precision import Precision, autocast, choose_precision, to_device
from .predict import answer, model_input, predict


def step_seconds(
    model: LoadedModel, images: Images, few: np.ndarray, device: torch.device, precision: Precision, recipe: TrainRecipe
) -> float:
    """Seconds per image of one step of training, decoding left out. The model's weights change.

    Args:
        few: int64 `[N]`, positions of some images.
    """
    module: nn.Module = to_device(model.module, device)
    optimizer = make_optimizer(module, lr=1e-6, weight_decay=0.0)
    indexes = few[np.arange(max(2, recipe.batch // recipe.accumulate)) % len(few)]
    windowed = images.batch(indexes, model.preprocess).to(device)

    def step() -> None:
        x = model_input(windowed, indexes, model.preprocess, (0, 0, recipe.augment))
        with autocast(device, precision):
            outputs: Any = answer(module, x, indexes)
        optimizer.zero_grad()
        (outputs.embedding if outputs.logits is None else outputs.logits).float().square().mean().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    module.train()
    step()
    found = sorted(seconds(step) for _ in range(3))[1] / len(indexes)
    module.eval()
    return found


def answer_seconds(
    model: LoadedModel, images: Images, few: np.ndarray, device: torch.device, precision: Precision | None = None
) -> float:
    """Seconds per image of one forward pass, decoding included.

    Args:
        few: int64 `[N]`, positions of some images. precision: None for the quicker one.
    """
    device = device if model.kind == "torch" else torch.device("cpu")
    chosen = precision or choose_precision(model.module, device, training=False)

    def ask() -> None:
        for _ in predict(model.module, images, few, model.preprocess, device=device, precision=chosen):
            pass

    ask()
    return seconds(ask) / len(few)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes, above 0."""
    started = time.perf_counter()
    work()
    return max(time.perf_counter() - started, 1e-9)
