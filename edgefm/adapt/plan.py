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
from .adapters import learning
from .job import Job
from .lora import Learner
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
    weights = _bytes(model)
    return _plan_loop(job, model, "full", kept=weights, learned=weights)


def plan_lora(job: Job, learner: Learner) -> list[str]:
    """Sentences about `--method lora` and `qlora`. `learner`: from `prepare_lora`; its adapters change."""
    layers, names = list(learner.layers.values()), learner.sites.names
    adapters = 4 * learning(layers) * len(names)
    many = f"{len(names)} adapters, each" if len(names) > 1 else "an adapter"
    first = (
        f"{learner.method}: {many} of {learning(layers) / 1e6:.2f} million weights on {len(layers)} layers, on a base in "
        f"{'float32' if learner.kind == 'float' else learner.kind}"
    )
    kept = learner.whole * len(names) + adapters
    return [first, *_plan_loop(job, learner.model, learner.method, kept=kept, learned=_bytes(learner.model))]


def _plan_loop(job: Job, model: LoadedModel, method: str, *, kept: int, learned: int) -> list[str]:
    """Sentences about a run of the training loop. `kept`: bytes of the run directory; `learned`: of what a checkpoint holds."""
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + min(KEEP, int(held)) + 3 * learned
    steps = recipe.epochs * max(1, len(job.train) // max(recipe.batch, 2))
    return [
        f"{method}: {len(job.train)} images to learn from, {len(job.val)} to validate on; {recipe.epochs} epochs, "
        f"about {steps} steps",
        f"about {duration(total)} on this machine ({job.device}, {precision}, {1 / step:.0f} images/s)",
        f"disk: {kept / 1e6:.0f} MB, {4 * learned / 1e6:.0f} MB more until it is finished; memory: about {peak / 1e9:.1f} GB",
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
