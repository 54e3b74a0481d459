"""Run every way to answer on the same real images, in turn, one image at a time, as the runtime will.

Not the judgement (`decide.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..data import Dataset
from ..runtime.preprocess import Preprocessor
from ..verify.parity import Predictor


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Outputs by name, float32 `[N, …]` in the order of the images, and the median milliseconds per image."""

    outputs: Mapping[str, np.ndarray]
    milliseconds: float


def measure(
    dataset: Dataset, indexes: np.ndarray, prepare: Preprocessor, predictors: Mapping[str, Predictor]
) -> dict[str, Measured]:
    """Every predictor on every image; each image is read and prepared once.

    Args:
        indexes: int64 `[N]`, positions in the data set, at least one.
        predictors: name to a function of float32 `[1, C, S, S]`.

    Raises:
        ImageError: an image that cannot be read, named with its row.
    """
    rows: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in predictors}
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for index in indexes:
        prepared = prepare(dataset.pixels(int(index)))[None]
        for name, predict in predictors.items():
            start = time.perf_counter()
            outputs = predict(prepared)
            times[name].append(time.perf_counter() - start)
            rows[name].append(dict(outputs))
    return {
        name: Measured(
            outputs={key: np.concatenate([row[key] for row in found]) for key in found[0]},
            milliseconds=1e3 * median(times[name]),
        )
        for name, found in rows.items()
    }
