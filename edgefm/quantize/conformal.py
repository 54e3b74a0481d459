"""The quantile of a bundle's conformal sets, from the labelled images of `calibrate`. Not its formula (`verify/conformal.py`).

A bundle has one quantile for all its variants, and each shall cover as promised: it is the largest of theirs, so the sets of
the others are a little larger than they need be. int8's ranges and biases come from the same images, without their labels: what
that changes about the promise is as small as what it changes about the answers, and `verify` measures it on others. The labels
that a decision rule is fitted to are others (`halves.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..data import Dataset
from ..errors import InputError
from ..runtime.decide import probabilities
from ..spec.recipe import Recipe
from ..spec.task import Conformal, Task
from ..verify.conformal import fewest, quantile
from .calibrate import SPLIT
from .halves import halves


def check(dataset: Dataset, task: Task, recipe: Recipe) -> None:
    """Raise `InputError` unless the data and the task allow of the quantile asked for: now, not after the work."""
    coverage = recipe.quantize.coverage
    assert coverage is not None
    if task.kind not in ("binary", "multiclass"):
        raise InputError(
            f"quantize.coverage is {coverage:g}, but the task is {task.kind}",
            expected="a binary or multiclass task, with one label for each image",
            do="leave quantize.coverage out",
        )
    if dataset.labels is None:
        raise InputError(
            f"quantize.coverage is {coverage:g}, but {dataset.name} has no labels",
            do="label the images of 'calibrate', or leave quantize.coverage out",
        )
    count, wanted = len(halves(dataset, recipe)[1]), fewest(coverage)
    if count < wanted:
        half = " for it, the other half being those of --calibrate" if recipe.quantize.calibrate else ""
        raise InputError(
            f"quantize.coverage is {coverage:g}, but '{SPLIT}' of {dataset.name} has {count} labelled images{half}",
            expected=f"at least {wanted}",
            do="label more images of 'calibrate', or ask for less coverage",
        )


def fitted(outputs: Mapping[str, Mapping[str, np.ndarray]], labels: np.ndarray, task: Task, coverage: float) -> Conformal:
    """The largest of the variants' quantiles.

    Args:
        outputs: variant to its outputs on these images (`halves.halves`), "logits" `[n, K]` among them.
        labels: int64 `[n]`, class index.
    """
    own = [quantile(probabilities(found["logits"], task), labels, task, coverage) for found in outputs.values()]
    return Conformal(coverage=coverage, quantile=max(own))
