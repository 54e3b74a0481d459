"""Training images as windowed tensors: decoded once where they fit into memory, prepared ahead of the loop in threads.

Not augmentation (`views.py`) and not preprocessing itself (`runtime/preprocess.py` does it, up to the normalisation).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import numpy as np
import torch

from ..data.dataset import Dataset
from ..runtime.cpu import usable_threads
from ..runtime.preprocess import Preprocessor
from ..spec.preprocess import Preprocess

KEEP = 2**30  # bytes of decoded images kept in memory


class Images:
    """The images of a data set, prepared for any model.

    An image is kept in the smaller of two exact forms, its stored pixels or the windowed tensor, until `keep` bytes are
    full; the others are decoded again each time. Which ones are kept changes speed, never a value.

    Args:
        dataset: where the pixels come from.
        keep: bytes.
    """

    def __init__(self, dataset: Dataset, keep: int = KEEP) -> None:
        self.dataset = dataset
        self.free = keep
        self._lock = threading.Lock()
        self._pixels: dict[int, np.ndarray] = {}
        self._windowed: dict[tuple[int, Preprocess], np.ndarray] = {}

    def batch(self, indexes: np.ndarray, spec: Preprocess) -> torch.Tensor:
        """Float32 `[N, C, S, S]`, 0 to 1: the images as `spec` prepares them, before its mean and std.

        Args:
            indexes: int64 `[N]`, positions in the data set.

        Raises:
            ImageError: one cannot be read.
        """
        neutral = _neutral(spec)
        prepare = Preprocessor(neutral)
        out = np.empty((len(indexes), spec.channels, spec.size, spec.size), np.float32)
        for row, index in enumerate(indexes.tolist()):
            self._fill(out[row], index, neutral, prepare)
        return torch.from_numpy(out)

    def batches(self, parts: Sequence[np.ndarray], spec: Preprocess) -> Generator[torch.Tensor, None, None]:
        """`batch` of each part, in order, made ahead by as many threads as may run; their timing changes nothing else."""
        threads = usable_threads()
        waiting: deque[Future[torch.Tensor]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="edgefm-images")
        try:
            for part in parts:
                waiting.append(pool.submit(self.batch, part, spec))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _fill(self, out: np.ndarray, index: int, neutral: Preprocess, prepare: Preprocessor) -> None:
        windowed = self._windowed.get((index, neutral))
        if windowed is not None:
            out[...] = windowed
            return
        pixels = self._pixels.get(index)
        if pixels is not None:
            prepare(pixels, out)
            return
        pixels = self.dataset.pixels(index)
        prepare(pixels, out)
        tensor = out[:1] if pixels.ndim == 2 else out  # the channels of a grey image are equal
        if pixels.nbytes <= tensor.nbytes:
            if self._take(pixels.nbytes):
                self._pixels[index] = pixels
        elif self._take(tensor.nbytes):
            self._windowed[index, neutral] = tensor.copy()

    def _take(self, count: int) -> bool:
        with self._lock:
            fits = count <= self.free
            self.free -= count if fits else 0
        return fits


def _neutral(spec: Preprocess) -> Preprocess:
    return msgspec.structs.replace(spec, mean=(0.0,) * spec.channels, std=(1.0,) * spec.channels)


def parts(rows: np.ndarray, batch: int) -> list[np.ndarray]:
    """Cut `rows` into batches, in order.

    BatchNorm cannot learn from one image: a last batch of one joins the batch before it, and a single image is shown twice.

    Args:
        rows: int64 `[N]`. batch: images per batch, at least 1.
    """
    if len(rows) == 1:
        return [np.repeat(rows, 2)]
    batch = max(batch, 2)
    cuts = list(range(batch, len(rows) - 1, batch))
    return np.split(rows, cuts)
