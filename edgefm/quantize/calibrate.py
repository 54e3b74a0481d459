"""Which images set the ranges of int8 activations: real ones, of the `calibrate` split, and of no other.

Not the ranges themselves (`nncf.py`). There is no way to make a `Calibration` out of anything but a data set's own images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..data import Dataset
from ..runtime.preprocess import Preprocessor

SPLIT = "calibrate"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The chosen images, read and prepared one by one as they are asked for, always in the same order.

    Attributes:
        dataset: where they are. indexes: int64 `[n]`, positions in it, ascending, n at least 1. prepare: as the runtime does.
    """

    dataset: Dataset
    indexes: np.ndarray
    prepare: Preprocessor

    def __len__(self) -> int:
        return len(self.indexes)

    def __iter__(self) -> Iterator[np.ndarray]:
        """float32 `[1, C, S, S]`, one image at a time. Raises `ImageError`."""
        for index in self.indexes:
            yield self.prepare(self.dataset.pixels(int(index)))[None]


def choose(dataset: Dataset, prepare: Preprocessor, count: int, seed: int) -> Calibration:
    """`count` images of the split, drawn without replacement from `seed`; all of them if there are no more.

    Raises:
        InputError: the split is empty.
    """
    there = dataset.of(SPLIT)
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(there)[:count]
    return Calibration(dataset=dataset, indexes=np.sort(drawn), prepare=prepare)


def describe(calibration: Calibration, asked: int) -> str:
    """How many images there are, and whether that is fewer than asked, as a sentence."""
    count = len(calibration)
    images = "1 image" if count == 1 else f"{count} images"
    short = f"; {asked} were asked for, the split has no more" if count < asked else ""
    return f"calibration: {images} of the '{SPLIT}' split of {calibration.dataset.name}{short}"
