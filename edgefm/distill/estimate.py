"""What a run would take: images, steps, teacher passes, minutes, disk and memory, from a few real steps. Writes nothing."""

from __future__ import annotations

import resource

import numpy as np

from ..models.encoder import TimmEncoder
from ..runtime.cpu import usable_threads
from ..train.images import KEEP
from ..train.precision import choose_precision
from ..train.predict import BATCH
from ..train.progress import duration
from ..train.timing import answer_seconds, seconds, step_seconds
from .cache import bytes_of
from .plan import Plan


def estimate(plan: Plan) -> list[str]:
    """Sentences about the run that this plan would make. The student's weights change."""
    images, student, recipe = plan.images, plan.student, plan.recipe.distill
    train, val = plan.train, plan.val
    passes = 0 if plan.cache is None else sum(len(part.images) for part in plan.cache.missing)
    answers = 0 if plan.cache is None else plan.cache.missing_bytes()
    training = choose_precision(student.module, plan.device, training=True)
    few = train[np.arange(min(BATCH, max(2, len(train)))) % len(train)]
    decode = seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    prepare = seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    step = step_seconds(student, images, few, plan.device, training, recipe)
    ask = _ask_seconds(plan, few) if passes else 0.0
    answer = answer_seconds(student, images, few, plan.device) if len(val) else 0.0
    held = (KEEP - images.free) / len(few) * (len(train) + len(val))
    again = prepare if 0 < held <= KEEP else decode
    total = len(images.dataset) * decode / usable_threads()  # every image is read once before anything starts
    total += recipe.epochs * (len(train) * (step + again / usable_threads()) + len(val) * answer)
    total += passes * ask + len(val) * answer
    weights = sum(value.numel() * value.element_size() for value in student.module.state_dict().values())
    assert isinstance(student.module, TimmEncoder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 4 * weights + min(KEEP, int(held))
    steps = recipe.epochs * max(1, len(train) // max(recipe.batch, 2))
    asked = f"{passes} teacher passes" if plan.cache is not None else "without the teacher"
    if plan.cache is not None and plan.cache.good:
        asked += f" ({sum(len(part.images) for part in plan.cache.questions.parts) - passes} are in {plan.cache.root})"
    disk = f"disk: {weights / 1e6:.0f} MB, {4 * weights / 1e6:.0f} MB more until it is finished"
    if plan.cache is not None:
        disk += f", {bytes_of(answers) if answers else 'nothing'} for the teacher's answers, which stay in {plan.cache.root}"
    return [
        f"{len(train)} images to learn from, {len(val)} to validate on; {recipe.epochs} epochs, about {steps} steps, {asked}",
        f"about {duration(total)} on this machine ({plan.device}, student in {training}, {1 / step:.0f} images/s"
        + (f", teacher {1 / ask:.0f} images/s)" if ask else ")"),
        f"{disk}; memory: about {peak / 1e9:.1f} GB",
    ]


def _ask_seconds(plan: Plan, few: np.ndarray) -> float:
    """Seconds per image of one answer of the teacher."""

    def ask() -> None:
        for _ in plan.teacher.ask(plan.images, few, precision=plan.teacher.precision):
            pass

    ask()
    return seconds(ask) / len(few)
