"""What a run would take: images, steps, teacher passes, minutes, disk and memory, from a few real steps. Writes nothing."""

from __future__ import annotations

import resource

import numpy as np
import torch

from ..models import LoadedModel
from ..models.encoder import TimmEncoder
from ..runtime.cpu import usable_threads
from ..spec.recipe import DistillRecipe
from ..train.images import KEEP, Images
from ..train.precision import choose_precision
from ..train.predict import BATCH
from ..train.progress import duration
from ..train.timing import answer_seconds, seconds, step_seconds


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
    decode = seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    prepare = seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    step = step_seconds(student, images, few, device, training, recipe)
    ask = answer_seconds(teacher, images, few, device) if passes or len(val) else 0.0
    answer = answer_seconds(student, images, few, device) if len(val) else 0.0
    held = (KEEP - images.free) / len(few) * (len(train) + len(val))
    again = prepare if 0 < held <= KEEP else decode
    total = len(images.dataset) * decode / usable_threads()  # every image is read once before anything starts
    total += recipe.epochs * (len(train) * (step + again / usable_threads()) + len(val) * answer)
    total += passes * ask + len(val) * (ask + answer)
    weights = sum(value.numel() * value.element_size() for value in student.module.state_dict().values())
    assert isinstance(student.module, TimmEncoder)
    working = 4 * weights + 4 * passes * int(student.module.model.num_classes)  # type: ignore[arg-type]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + working
    peak += min(KEEP, int(held))
    steps = recipe.epochs * max(1, len(train) // max(recipe.batch, 2))
    return [
        f"{len(train)} images to learn from, {len(val)} to validate on; {recipe.epochs} epochs, about {steps} steps, "
        f"{passes} teacher passes ({views} views of each image)",
        f"about {duration(total)} on this machine ({device}, student in {training}, {1 / step:.0f} images/s"
        + (f", teacher {1 / ask:.0f} images/s)" if ask else ")"),
        f"disk: {weights / 1e6:.0f} MB, {working / 1e6:.0f} MB more until it is finished; memory: about {peak / 1e9:.1f} GB",
    ]
