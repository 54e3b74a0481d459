"""Several adapters on one base: each value of a group column (a site, a scanner, a modality) has one, all learn together.

Not their arithmetic (`index` of `kernels/ops/lora.py`) and not how they are placed (`adapters.py`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .job import Job
from .lora_linear import Chosen

ONE = "default"  # the name of an adapter that is alone, PEFT's own
TAKEN = ("state", "lock", "tensorboard", "evaluation.json", "metrics.jsonl")  # what else lies in a run's folder


@dataclass(frozen=True)
class Sites:
    """Who uses which adapter.

    Attributes:
        names: of the adapters, by number; folders are called so.
        of_image: int64 `[N]`, the adapter of every image of the data set; -1 for images that are neither in train nor in val.
        column: where the names come from; None for one adapter for all.
    """

    names: tuple[str, ...]
    of_image: np.ndarray
    column: str | None = None

    def chosen(self) -> Chosen | None:
        """A new one, for the layers; None where there is nothing to choose."""
        return None if self.column is None else Chosen(self.of_image)

    def rows(self, rows: np.ndarray, number: int) -> np.ndarray:
        """Those of `rows`, int64 `[M]`, that use adapter `number`."""
        return rows[self.of_image[rows] == number]

    def sha256(self) -> str:
        """Of all this: the hash of the data does not hold their groups."""
        return hashlib.sha256(json.dumps([self.names, self.of_image.tolist()]).encode()).hexdigest()


def find_sites(job: Job) -> Sites:
    """One adapter, or one for each value that `adapt.lora.by` has in train, in alphabetical order.

    Raises:
        InputError: no such column; an image of train or val without a value; a value without an image in train, or with one
            that can be no folder's name.
    """
    column, dataset = job.recipe.adapt.lora.by, job.dataset
    shown = np.concatenate([job.train, job.val])
    of_image = np.full(len(dataset), -1, np.int64)
    if column is None:
        of_image[shown] = 0
        return Sites((ONE,), of_image)
    if column not in dataset.groups:
        there = ", ".join(dataset.groups) or "none"
        raise InputError(
            f"{dataset.name} has no column {column!r} to group images by",
            expected=f"one of its further columns ({there})",
            do="correct adapt.lora.by",
        )
    values = dataset.groups[column]
    bare = [index for index in shown.tolist() if not values[index]]
    if bare:
        raise InputError(
            f"{len(bare)} images of train and val have no {column}, such as {dataset.names[bare[0]]}",
            expected=f"a {column} for each",
            do="fill them in, or leave these images out",
        )
    names = tuple(sorted({values[index] for index in job.train.tolist()}))
    numbers = {name: number for number, name in enumerate(names)}
    strange = sorted({values[index] for index in job.val.tolist()} - set(names))
    if strange:
        raise InputError(
            f"{column} {strange[0]!r} has images in val and none in train",
            expected=f"images to learn from for each {column}",
            do="move some into train, or leave these images out",
        )
    for name in names:
        odd = name.startswith(".") or "/" in name or "\\" in name or not name.isprintable() or len(name.encode()) > 200
        if odd or name in TAKEN:
            raise InputError(f"{column} {name!r} cannot be a folder's name", do=f"rename it in {dataset.name}")
    of_image[shown] = [numbers[values[index]] for index in shown.tolist()]
    return Sites(names, of_image, column)
