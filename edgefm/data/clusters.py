"""Who belongs together: what is drawn, cut and counted as one. Not the cut (`splits.py`) and not the draws (`verify/`)."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset


def clusters(dataset: Dataset) -> np.ndarray:
    """One value per image, `[N]`, the same for images that are one observation: those of one patient.

    Where patients are unknown, copies of one image are one observation, and every other image is its own. Their value is the
    position in the source of the first of them, int64; files of equal length are read for it.
    """
    if dataset.patients is not None:
        return np.array(dataset.patients)
    copies = dataset.store.copies()
    return np.array([copies.get(int(key), int(key)) for key in dataset.keys], np.int64)
