"""What every way to run the model answers on the same real images, one image at a time, as the runtime will.

Not the judgement (`decide.py`) and not the time it takes (`speed.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from ..data import Dataset
from ..runtime.preprocess import Preprocessor
from ..train.progress import no_bar
from ..verify.parity import Predictor


def measure(
    dataset: Dataset,
    indexes: np.ndarray,
    prepare: Preprocessor,
    predictors: Mapping[str, Predictor],
    bar: Callable[[float, float], None] = no_bar,
) -> dict[str, dict[str, np.ndarray]]:
    """The outputs of every predictor, by its name: by output, float32 `[N, …]` in the order of the images.

    Each image is read and prepared once.

    Args:
        indexes: int64 `[N]`, positions in the data set, at least one.
        predictors: name to a function of float32 `[1, C, S, S]`.
        bar: takes the share of these images that is done, 0 to 1, and the seconds left.

    Raises:
        ImageError: an image that cannot be read, named with its row.
    """
    rows: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in predictors}
    start = time.monotonic()
    for done, index in enumerate(indexes, 1):
        prepared = prepare(dataset.pixels(int(index)))[None]
        for name, predict in predictors.items():
            rows[name].append(dict(predict(prepared)))
        bar(done / len(indexes), (time.monotonic() - start) * (len(indexes) / done - 1))
    return {name: {key: np.concatenate([row[key] for row in found]) for key in found[0]} for name, found in rows.items()}
