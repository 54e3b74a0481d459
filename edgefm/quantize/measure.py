"""What every way to run the model answers on the same real images, one image at a time, as the runtime will.

Not the judgement (`decide.py`) and not the time it takes (`speed.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..data import Dataset
from ..runtime.preprocess import Preprocessor
from ..verify.parity import Predictor


def measure(
    dataset: Dataset, indexes: np.ndarray, prepare: Preprocessor, predictors: Mapping[str, Predictor]
) -> dict[str, dict[str, np.ndarray]]:
    """The outputs of every predictor, by its name: by output, float32 `[N, …]` in the order of the images.

    Each image is read and prepared once.

    Args:
        indexes: int64 `[N]`, positions in the data set, at least one.
        predictors: name to a function of float32 `[1, C, S, S]`.

    Raises:
        ImageError: an image that cannot be read, named with its row.
    """
    rows: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in predictors}
    for index in indexes:
        prepared = prepare(dataset.pixels(int(index)))[None]
        for name, predict in predictors.items():
            rows[name].append(dict(predict(prepared)))
    return {name: {key: np.concatenate([row[key] for row in found]) for key in found[0]} for name, found in rows.items()}
