"""What `adapt` would take: images, minutes, disk and memory, from a few real runs of the model. Writes nothing.

Not a promise: other work on the machine makes it longer.
"""

from __future__ import annotations

import resource

import numpy as np

from ..models import LoadedModel
from ..models.probe_dir import Base
from ..runtime.cpu import usable_threads
from ..train.images import KEEP, Images
from ..train.precision import choose_precision, to_device
from ..train.predict import BATCH
from ..train.progress import duration
from ..train.timing import answer_seconds, seconds, step_seconds
from .job import Job
from .probe import GRID, few_threads

SETTLE = 200  # steps of L-BFGS for one C: a rough figure, not a measurement


def plan_linear(job: Job, target: LoadedModel, base: Base | None) -> list[str]:
    """Sentences about `--method linear`. `target`, `base`: from `prepare_linear`."""
    images, few = Images(job.dataset, keep=0), _few(job.train)
    if job.model.kind == "torch":
        to_device(job.model.module, job.device)
    decode = seconds(lambda: images.batch(few, job.model.preprocess)) / len(few)
    quick = answer_seconds(job.model, images, few, job.device)
    exact = answer_seconds(job.model, images, few, job.device, "fp32")
    count = len(job.train) + len(job.val)
    fit = len(GRID) * SETTLE * _product(job)
    total = count * decode / usable_threads() + len(job.train) * quick + len(job.val) * exact + fit
    features, kept = 4 * count * job.width, 0 if base is not None else _bytes(target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 5 * features
    where = "the model is in it" if base is None else f"the model stays at {base.source}"
    return [
        f"linear: features of {len(job.train)} images to learn from and {len(job.val)} to choose by, {job.width} wide; "
        f"{len(GRID)} regressions",
        f"about {duration(total)} on this machine ({job.device}, {1 / quick:.0f} images/s)",
        f"disk: {(kept + 4 * job.width * len(job.task.labels)) / 1e6:.1f} MB ({where}), {features / 1e6:.1f} MB more until it "
        f"is finished; memory: about {peak / 1e9:.1f} GB",
    ]


def plan_full(job: Job, model: LoadedModel) -> list[str]:
    """Sentences about `--method full`. `model`: from `prepare_full`; its weights change."""
    images, few, recipe = Images(job.dataset), _few(job.train), job.recipe.adapt
    precision = choose_precision(model.module, job.device, training=True)
    decode = seconds(lambda: images.batch(few, model.preprocess)) / len(few)
    again = seconds(lambda: images.batch(few, model.preprocess)) / len(few)
    step = step_seconds(model, images, few, job.device, precision, recipe)
    answer = answer_seconds(model, images, few, job.device, precision) if len(job.val) else 0.0
    held = (KEEP - images.free) / len(few) * (len(job.train) + len(job.val))
    prepare = (again if 0 < held <= KEEP else decode) / usable_threads()
    total = (len(job.train) + len(job.val)) * decode / usable_threads()  # every image is read once before anything starts
    total += recipe.epochs * (len(job.train) * (step + prepare) + len(job.val) * (answer + prepare))
    weights = _bytes(model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + min(KEEP, int(held)) + 3 * weights
    steps = recipe.epochs * max(1, len(job.train) // max(recipe.batch, 2))
    return [
        f"full: {len(job.train)} images to learn from, {len(job.val)} to validate on; {recipe.epochs} epochs, "
        f"about {steps} steps",
        f"about {duration(total)} on this machine ({job.device}, {precision}, {1 / step:.0f} images/s)",
        f"disk: {weights / 1e6:.0f} MB, {4 * weights / 1e6:.0f} MB more until it is finished; "
        f"memory: about {peak / 1e9:.1f} GB",
    ]


def _few(rows: np.ndarray) -> np.ndarray:
    return rows[np.arange(min(BATCH, max(2, len(rows)))) % len(rows)]


def _bytes(model: LoadedModel) -> int:
    return sum(value.numel() * value.element_size() for value in model.module.state_dict().values())


def _product(job: Job) -> float:
    """Seconds of a regression's step: two products of the features with the weights."""
    rows = min(len(job.train), 4096)
    features, weights = np.ones((rows, job.width)), np.ones((job.width, len(job.task.labels)))
    with few_threads(len(job.train) * job.width):
        features.T @ (features @ weights)  # the first is slower
        return seconds(lambda: features.T @ (features @ weights)) * len(job.train) / rows
