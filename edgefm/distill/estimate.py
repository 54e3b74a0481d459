"""What a run would take: images, steps, teacher passes, minutes, disk and memory, from a few real steps. Writes nothing."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models import LoadedModel
from ..models.encoder import TimmEncoder
from ..runtime.cpu import usable_threads
from ..spec.recipe import DistillRecipe
from ..train.images import KEEP, Images
from ..train.optimizer import make_optimizer
from ..train.precision import Precision, autocast, choose_precision, to_device
from ..train.predict import BATCH, model_input, predict
from ..train.progress import duration


def estimate(
    teacher: LoadedModel,
    student: LoadedModel,
    images: Images,
    train: np.ndarray,
    val: np.ndarray,
    recipe: DistillRecipe,
    device: torch.device,
) -> list[str]:
    """Sentences about the run that these arguments would make. The student's weights change.

    Args:
        train, val: int64, positions of the images. device: of the student.
    """
    views = min(recipe.views, recipe.epochs)
    passes = views * len(train) if recipe.losses.logits or not student.task.labels else 0
    training = choose_precision(student.module, device, training=True)
    few = train[np.arange(min(BATCH, max(2, len(train)))) % len(train)]
    decode = _seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    prepare = _seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    step = _step_seconds(student, images, few, device, training, recipe)
    ask = _ask_seconds(teacher, images, few, device) if passes or len(val) else 0.0
    answer = _ask_seconds(student, images, few, device) if len(val) else 0.0
    held = (KEEP - images.free) / len(few) * (len(train) + len(val))
    again = prepare if 0 < held <= KEEP else decode
    seconds = len(images.dataset) * decode / usable_threads()  # every image is read once before anything starts
    seconds += recipe.epochs * (len(train) * (step + again / usable_threads()) + len(val) * answer)
    seconds += passes * ask + len(val) * (ask + answer)
    weights = sum(value.numel() * value.element_size() for value in student.module.state_dict().values())
    assert isinstance(student.module, TimmEncoder)
    working = 4 * weights + 4 * passes * int(student.module.model.num_classes)  # type: ignore[arg-type]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + working
    peak += min(KEEP, int(held))
    steps = recipe.epochs * max(1, len(train) // max(recipe.batch, 2))
    return [
        f"{len(train)} images to learn from, {len(val)} to validate on; {recipe.epochs} epochs, about {steps} steps, "
        f"{passes} teacher passes ({views} views of each image)",
        f"about {duration(seconds)} on this machine ({device}, student in {training}, {1 / step:.0f} images/s"
        + (f", teacher {1 / ask:.0f} images/s)" if ask else ")"),
        f"disk: {weights / 1e6:.0f} MB, {working / 1e6:.0f} MB more until it is finished; memory: about {peak / 1e9:.1f} GB",
    ]


def _step_seconds(
    student: LoadedModel, images: Images, few: np.ndarray, device: torch.device, precision: Precision, recipe: DistillRecipe
) -> float:
    """Seconds per image of one step of training, decoding left out."""
    module: nn.Module = to_device(student.module, device)
    optimizer = make_optimizer(module, lr=1e-6, weight_decay=0.0)
    indexes = few[np.arange(max(2, recipe.batch)) % len(few)]
    windowed = images.batch(indexes, student.preprocess).to(device)

    def step() -> None:
        x = model_input(windowed, indexes, student.preprocess, (0, 0, recipe.augment))
        with autocast(device, precision):
            outputs: Any = module(x)
        optimizer.zero_grad()
        (outputs.embedding if outputs.logits is None else outputs.logits).float().square().mean().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    module.train()
    step()
    seconds = sorted(_seconds(step) for _ in range(3))[1] / len(indexes)
    module.eval()
    return seconds


def _ask_seconds(model: LoadedModel, images: Images, few: np.ndarray, device: torch.device) -> float:
    """Seconds per image of one forward pass."""
    device = device if model.kind == "torch" else torch.device("cpu")
    precision = choose_precision(model.module, device, training=False)

    def ask() -> None:
        for _ in predict(model.module, images, few, model.preprocess, device=device, precision=precision):
            pass

    ask()
    return _seconds(ask) / len(few)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return max(time.perf_counter() - started, 1e-9)
