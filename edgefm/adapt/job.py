"""What `adapt` is asked to do: model and data loaded and checked against each other, before hours of work. Not the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from ..data.dataset import Dataset
from ..data.images import check_images
from ..data.sources import load_data
from ..errors import InputError
from ..models import LoadedModel, load_model
from ..spec.manifest import Ancestor
from ..spec.recipe import Recipe
from ..spec.task import Task
from ..train.precision import usable_device


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs.

    Attributes:
        source, tap: as the user named the model. model: that, in eval mode, with the recipe's window if it states one.
        width: of its embedding.
        dataset: with labels. train, val: positions of its images, int64, `val` perhaps none.
        notes: what a person should know before the work begins.
    """

    source: Any
    tap: str | None
    model: LoadedModel
    width: int
    dataset: Dataset
    train: np.ndarray
    val: np.ndarray
    recipe: Recipe
    device: torch.device
    notes: tuple[str, ...]

    @property
    def task(self) -> Task:
        """What is learned: kind and labels of the data, with default thresholds."""
        return self.dataset.task

    @property
    def labels(self) -> np.ndarray:
        """Of the whole data set."""
        assert self.dataset.labels is not None
        return self.dataset.labels

    def lineage(self) -> tuple[Ancestor, ...]:
        """What the adapted model descends from, nearest first."""
        model = self.model
        origin = Ancestor(role="model", name=model.name, licence=model.licence, sha256=model.sha256)
        data = Ancestor(role="data", name=self.dataset.name, sha256=self.dataset.sha256())
        return (origin, *model.ancestors, data)


def load_job(
    source: Any,
    data: str | Path,
    recipe: Recipe,
    *,
    tap: str | None,
    licence: str | None,
    trust_remote_code: bool,
    device: str,
    look: bool,
) -> Job:
    """Load model and data.

    Args:
        look: read every image that will be used, so that a broken one is found now.

    Raises:
        InputError: see `adapt`.
    """
    place = usable_device(device)
    dataset = load_data(data, recipe.data)
    notes, train = _learnable(dataset), dataset.labelled("train")
    model = load_model(source, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    window = recipe.preprocess.window16
    if window is not None:
        model = replace(model, preprocess=msgspec.structs.replace(model.preprocess, window16=window))
    model.module.eval()
    width = _width(model)
    if look:
        dataset = check_images(dataset, np.concatenate([train, np.flatnonzero(dataset.splits == "val")]))
        notes, train = _learnable(dataset), dataset.labelled("train")
    return Job(
        source=source,
        tap=tap,
        model=model,
        width=width,
        dataset=dataset,
        train=train,
        val=np.flatnonzero(dataset.splits == "val"),
        recipe=recipe,
        device=place if model.kind == "torch" else torch.device("cpu"),  # frozen graphs run in their own engine
        notes=(*dataset.notes, *(f"left out: {problem}" for problem in dataset.skipped), *notes),
    )


def _learnable(dataset: Dataset) -> list[str]:
    """Sentences about what teaches nothing; refuses data that teach nothing at all or not all of a task's classes."""
    if dataset.labels is None:
        raise InputError(
            f"{dataset.name} has no labels",
            expected="labels to learn from",
            do="add labels, or teach a student the model's features with edgefm distill, which needs none",
        )
    labels, names = dataset.labels[dataset.labelled("train")], dataset.task.labels
    bare = len(dataset.of("train")) - len(labels)
    notes = [f"{bare} images of train have no label: nothing is learned from them here"] if bare else []
    if labels.ndim == 1:
        missing = [names[k] for k in range(len(names)) if not (labels == k).any()]
        if missing:
            raise InputError(
                f"train of {dataset.name} has no image of {_some(missing)}",
                expected="images of every class to learn from",
                do="move some into train, or leave that class out",
            )
        return notes
    idle = [name for name, column in zip(names, labels.T) if column.min() == column.max()]
    if len(idle) == len(names):
        raise InputError(
            f"in train of {dataset.name} all images have the same labels",
            expected="a label that some have and others have not",
            do="add images to train",
        )
    if idle:
        notes.append(f"train has only images with, or only images without {_some(idle)}: nothing can be learned there")
    return notes


def _some(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _width(model: LoadedModel) -> int:
    """The width of the embedding, from one empty image."""
    spec = model.preprocess
    with torch.no_grad():
        embedding = model.module(torch.zeros(1, spec.channels, spec.size, spec.size)).embedding
    if embedding.ndim != 2:
        raise InputError(
            f"the embedding of {model.name} has the shape {list(embedding.shape)}", expected="[N, D], one vector per image"
        )
    return int(embedding.shape[1])
