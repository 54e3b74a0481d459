"""Short trainings of the toys, and what two of them must have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgefm.models.loaded import Outputs
from edgefm.spec.recipe import TrainRecipe
from edgefm.train.checkpoint import State, snapshot
from edgefm.train.images import Images
from edgefm.train.loop import Training, fit
from edgefm.train.objective import Batch, LabelObjective, Objective
from edgefm.train.progress import Report
from edgefm.train.validation import validate_labels

from .toys import BINARY, GREY, Toy, dark_and_bright

CPU = torch.device("cpu")
SHORT = TrainRecipe(epochs=4, views=2, batch=4, lr=0.02)


class Stop(Exception):
    """As Ctrl-C would come: from anywhere, between two steps."""


class Stopping:
    """An objective that is interrupted in one step."""

    def __init__(self, inner: Objective, step: int) -> None:
        self.inner, self.left = inner, step

    def prepare(self, view: int, progress: Callable[[int, int], None]) -> None:
        self.inner.prepare(view, progress)

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        self.left -= 1
        if self.left < 0:
            raise Stop
        return self.inner(outputs, batch)


def training_of(
    module: nn.Module | None = None,
    *,
    train: int = 12,
    val: int = 6,
    recipe: TrainRecipe = SHORT,
    stop: int | None = None,
    seed: int = 5,
    objective: Objective | None = None,
    **others: Any,
) -> Training:
    dataset = dark_and_bright(train, val)
    assert dataset.labels is not None
    indexes = np.flatnonzero(dataset.splits == "train")
    objective = objective or LabelObjective(dataset.labels, indexes, "binary", 2, CPU)
    images = Images(dataset)
    return Training(
        module=module or Toy(),
        images=images,
        train=indexes,
        spec=GREY,
        objective=objective if stop is None else Stopping(objective, stop),
        validate=validate_labels(images, np.flatnonzero(dataset.splits == "val"), dataset.labels, GREY, BINARY, CPU),
        recipe=recipe,
        seed=seed,
        device=CPU,
        **others,
    )


def run(training: Training, folder: Path, resume: bool = False, identity: dict[str, object] | None = None) -> State:
    folder.mkdir(exist_ok=True)
    return fit(training, folder, identity=identity or {"lr": training.recipe.lr}, resume=resume, report=Report())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(snapshot(one).values(), snapshot(other).values()))


def curve(folder: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what the clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "images_per_s")} for line in lines]
