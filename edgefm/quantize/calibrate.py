"""Which images set the ranges of int8 activations: real ones, of the `calibrate` split, and of no other.

Not the ranges themselves (`nncf.py`). There is no way to make a `Calibration` out of anything but a data set's own images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..data import Dataset
from ..runtime.preprocess import Preprocessor

SPLIT = "calibrate"
# A MobileNetV3-small on chest X-rays, two draws each: calibrated on 3 images its logits err by 0.10 and 0.52 standard
# deviations (3 and 34 of 238 decisions changed), on 10 by 0.06 and 0.08, on 30 by 0.06, on all 238 by no less.
FEWEST = 30


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The chosen images, read and prepared one by one as they are asked for, always in the same order.

    Attributes:
        dataset: where they are. indexes: int64 `[n]`, positions in it, ascending. prepare: as the runtime does.
    """

    dataset: Dataset
    indexes: np.ndarray
    prepare: Preprocessor

    def spread(self, most: int) -> Calibration:
        """At most `most` of the images, evenly spread over them."""
        places = np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(np.int64)
        return replace(self, indexes=self.indexes[places])

    def __len__(self) -> int:
        return len(self.indexes)

    def __iter__(self) -> Iterator[np.ndarray]:
        """float32 `[1, C, S, S]`, one image at a time. Raises `ImageError`."""
        for index in self.indexes:
            yield self.prepare(self.dataset.pixels(int(index)))[None]


def choose(dataset: Dataset, prepare: Preprocessor, count: int, seed: int) -> Calibration:
    """`count` images of the split, drawn without replacement from `seed`; all of them if there are no more, none for 0.

    Raises:
        InputError: the split is empty.
    """
    there = dataset.of(SPLIT) if count else np.empty(0, np.int64)
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(there)[:count]
    return Calibration(dataset=dataset, indexes=np.sort(drawn), prepare=prepare)


def describe(calibration: Calibration, asked: int) -> str:
    """How many images there are, whether that is fewer than asked, and whether it is too few to rely on, as a sentence."""
    count = len(calibration)
    images = "1 image" if count == 1 else f"{count} images"
    short = f"; {asked} were asked for, the split has no more" if count < asked else ""
    few = f"; with fewer than {FEWEST}, int8 depends on which ones they are: only the gate can tell" if count < FEWEST else ""
    return f"calibration: {images} of the '{SPLIT}' split of {calibration.dataset.name}{short}{few}"
