"""Whose labels the decision rule is fitted to, and whose make the conformal quantile: of `calibrate`, and never the same ones.

Not the fits (`rule.py`, `conformal.py`). Conformal sets promise their coverage only if the model has learned nothing from the
images of the quantile (Papadopoulos et al. 2002), and a temperature is learned. So where both are asked for, the patients are
dealt in two halves, by hashes of their ids and with the classes in balance, as `data/splits.py` deals them.
"""

from __future__ import annotations

import numpy as np

from ..data import Dataset, clusters
from ..data.splits import cut
from ..spec.recipe import Recipe
from .calibrate import SPLIT


def halves(dataset: Dataset, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The images of the rule and those of the quantile, int64, ascending: all that are labelled, where only one is asked for.

    Raises:
        InputError: no labels in the split, or both are asked for and there is one patient only.
    """
    rows = dataset.labelled(SPLIT)
    if not recipe.quantize.calibrate or recipe.quantize.coverage is None:
        return rows, rows
    side = cut(
        _patients(dataset, rows),
        [tuple(dataset.label_names(int(row))) for row in rows],
        {"rule": 0.5, "sets": 0.5},
        seed=recipe.data.seed,
        many=False,
        what=f"'{SPLIT}' of {dataset.name}, with --calibrate and quantize.coverage,",
        part=SPLIT,
    )
    return rows[side == "rule"], rows[side == "sets"]


def counted(dataset: Dataset, rows: np.ndarray) -> dict[str, int]:
    """`images` and `patients`, how many; without patients copies of an image are one."""
    return {"images": len(rows), "patients": len(set(_patients(dataset, rows)))}


def _patients(dataset: Dataset, rows: np.ndarray) -> list[str]:
    """The patient of each image; where none are known, the name of the image, or of its copy that is first in the alphabet."""
    owners, names = clusters(dataset)[rows].tolist(), [dataset.names[row] for row in rows]
    if dataset.patients is not None:
        return [str(owner) for owner in owners]
    first: dict[int, str] = {}
    for owner, name in zip(owners, names):
        first[owner] = min(first.get(owner, name), name)
    return [first[owner] for owner in owners]
