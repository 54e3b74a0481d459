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
from .teacher import Teacher


def estimate(plan: Plan) -> list[str]:
    """Sentences about the run that this plan would make. The student's weights change."""
    images, student, recipe = plan.images, plan.student, plan.recipe.distill
    train, val = plan.train, plan.val
    passes = {cache: sum(len(part.images) for part in cache.missing) for cache in plan.caches}
    answers = sum(cache.missing_bytes() for cache in plan.caches)
    training = choose_precision(student.module, plan.device, training=True)
    few = train[np.arange(min(BATCH, max(2, len(train)))) % len(train)]
    decode = seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    prepare = seconds(lambda: images.batch(few, student.preprocess)) / len(few)
    step = step_seconds(student, images, few, plan.device, training, recipe)
    ask = {cache: _ask_seconds(cache.teacher, plan, few) for cache, count in passes.items() if count}
    answer = answer_seconds(student, images, few, plan.device) if len(val) else 0.0
    held = (KEEP - images.free) / len(few) * (len(train) + len(val))
    again = prepare if 0 < held <= KEEP else decode
    total = len(images.dataset) * decode / usable_threads()  # every image is read once before anything starts
    total += recipe.epochs * (len(train) * (step + again / usable_threads()) + len(val) * answer)
    total += sum(passes[cache] * each for cache, each in ask.items()) + len(val) * answer
    weights = sum(value.numel() * value.element_size() for value in student.module.state_dict().values())
    assert isinstance(student.module, TimmEncoder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 4 * weights + min(KEEP, int(held))
    steps = recipe.epochs * max(1, len(train) // max(recipe.batch, 2))
    asked = f"{sum(passes.values())} teacher passes" if plan.caches else "without the teacher"
    if have := sum(len(part.images) for cache in plan.caches for part in cache.questions.parts) - sum(passes.values()):
        asked += f" ({have} are in {plan.caches[0].root})"
    disk = f"disk: {weights / 1e6:.0f} MB, {4 * weights / 1e6:.0f} MB more until it is finished"
    if plan.caches:
        size = bytes_of(answers) if answers else "nothing"
        disk += f", {size} for the teacher's answers, which stay in {plan.caches[0].root}"
    teachers = "".join(f", teacher {1 / each:.0f} images/s" for each in ask.values())
    return [
        f"{len(train)} images to learn from, {len(val)} to validate on; {recipe.epochs} epochs, about {steps} steps, {asked}",
        f"about {duration(total)} on this machine ({plan.device}, student in {training}, {1 / step:.0f} images/s{teachers})",
        f"{disk}; memory: about {peak / 1e9:.1f} GB",
    ]


def _ask_seconds(teacher: Teacher, plan: Plan, few: np.ndarray) -> float:
    """Seconds per image of one answer of a teacher."""

    def ask() -> None:
        for _ in teacher.ask(plan.images, few, precision=teacher.precision):
            pass

    ask()
    return seconds(ask) / len(few)
