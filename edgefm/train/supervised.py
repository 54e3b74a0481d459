"""Fit a classifier to labels with the one loop: `adapt` with all weights, and how quickstart makes its teacher. Not a verb."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from ..data.dataset import Dataset
from ..errors import InputError
from ..models import LoadedModel, save_run
from ..partial import partial_folder
from ..spec.manifest import Ancestor
from ..spec.recipe import Recipe, TrainRecipe
from .checkpoint import STATE, State
from .images import Images
from .loop import Training, fit
from .objective import LabelObjective
from .precision import usable_device
from .processes import ALONE, Processes
from .progress import Report, no_bar, silent
from .validation import validate_labels

_DEFAULTS = Recipe()


def fit_labels(
    model: LoadedModel,
    images: Images,
    folder: Path,
    *,
    recipe: TrainRecipe,
    seed: int,
    identity: Mapping[str, Any],
    device: torch.device,
    scales: Mapping[str, float] = {},
    processes: Processes = ALONE,
    resume: bool = False,
    report: Report,
) -> State:
    """Train a classifier on the labels of `train` by cross-entropy with class weights; it ends as the epoch best on `val`.

    Args:
        model: answers the task of the data set, its labels in the same order. It is trained in place.
        images: with labels; without any in `val` the last epoch is kept.
        folder, identity, resume: as for `loop.fit`. scales, processes: as in `Training`.

    Raises:
        InputError: as `loop.fit`, or there are no training images.
    """
    dataset, task = images.dataset, model.task
    assert dataset.labels is not None
    train, val = dataset.labelled("train"), np.flatnonzero(dataset.splits == "val")
    training = Training(
        module=model.module,
        images=images,
        train=train,
        spec=model.preprocess,
        objective=LabelObjective(dataset.labels, train, task.kind, len(task.labels), device),
        validate=validate_labels(images, val, dataset.labels, model.preprocess, task, device),
        recipe=recipe,
        seed=seed,
        device=device,
        scales=scales,
        processes=processes,
    )
    return fit(training, folder, identity=identity, resume=resume, report=report)


def fit_supervised(
    model: LoadedModel,
    dataset: Dataset,
    out: Path,
    *,
    epochs: int,
    seed: int = 0,
    recipe: Recipe = _DEFAULTS,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    report: Callable[[str], None] = silent,
    bar: Callable[[float, float], None] = no_bar,
) -> Path:
    """Train a classifier on the labels of `train` by cross-entropy with class weights, keep the epoch that is best on `val`.

    Args:
        model: from `build_student`, its labels those of `dataset` in the same order. It is trained in place.
        dataset: with labels; its images are read for the first time here, so pass it through `check_images` before.
        out: the run directory to write.
        epochs, seed: take the place of the recipe's. Of `recipe.distill` views, batch, lr, weight_decay, warmup and augment
            are used.
        report: takes a line per epoch. bar: takes the share done, 0 to 1, and the seconds left.

    Returns:
        `out`, a run directory that `load_model` takes.

    Raises:
        InputError: no labels, other labels than the model's, no training images, or `out` cannot be written.
    """
    if dataset.labels is None or dataset.task.labels != model.task.labels or dataset.task.kind != model.task.kind:
        raise InputError(
            f"{dataset.name} is labelled {', '.join(dataset.task.labels) or 'not at all'} ({dataset.task.kind})",
            expected=f"{', '.join(model.task.labels)} ({model.task.kind}), as the model answers",
        )
    settings = msgspec.structs.replace(recipe.distill, epochs=epochs)
    recipe = msgspec.structs.replace(recipe, seed=seed, student=model.name, distill=settings)
    place = usable_device(device)
    data = Ancestor(role="data", name=dataset.name, sha256=dataset.sha256())
    identity = {"recipe": msgspec.to_builtins(recipe), "model": model.sha256, "data": data.sha256}
    with partial_folder(out, force=force, resume=resume) as folder:
        fit_labels(
            model,
            Images(dataset),
            folder,
            recipe=settings,
            seed=seed,
            identity=identity,
            device=place,
            resume=resume,
            report=Report(report, bar),
        )
        save_run(folder, replace(model, module=model.module.cpu()), recipe, (*model.ancestors, data))
    shutil.rmtree(out / STATE)
    return out
