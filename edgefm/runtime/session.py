"""One open bundle, ready to answer: pixels in, answers out, in order, from any number of threads.

Not the parts: decoding, preparation, engines and decisions have files of their own. This is how they meet.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from ..bundle import open_bundle
from ..errors import BundleError, EdgeFMError, ImageError, InputError
from .answer import Answer, answered
from .cpu import usable_threads
from .explain import explaining
from .preprocess import Preprocessor
from .select import choose

if TYPE_CHECKING:
    from concurrent.futures import Future

    from PIL.Image import Image as PillowImage

    from .engines import Engine

    Image = str | Path | np.ndarray | PillowImage

__all__ = ["Answer", "Session"]

MOST_WORKERS = 8


class _Prepared(NamedTuple):
    """An image of a list, ready for the model, or the reason why not; `seconds` is what that took."""

    source: str
    tensor: np.ndarray | None
    error: str | None
    seconds: float


class Session:
    """A loaded bundle. A context manager; safe to use from several threads at once, with the same answers as from one.

    Attributes:
        bundle: the open bundle.
        task: what the model answers.
        variant: what runs, e.g. "openvino-int8"; "openvino-bf16" is openvino-fp32 run in bf16.
        precision: what it runs in, read back from the engine: "fp32", "bf16" or "int8".
        choice: one sentence: why this variant, and what was measured.
        threads: processor threads that preparation and the engine use.

    Args:
        path: the `.efm` file.
        variant: a variant's name, over the environment variable EDGEFM_VARIANT; None lets this machine choose by measurement.
            Either way a variant is held to the bundle's golden inputs before it answers. That and the measurement are done
            once, and remembered in the user's cache folder.
        threads: by default all that this process may use (affinity and cgroup quota).
        allow_refused: open a bundle that a gate refused.
        explain: run what can show its attention (`heat`), where no variant is named.

    Raises:
        BundleError: not a good bundle, or a refused one.
        InputError: an unknown variant, or none that can run here.
        MissingExtra: the engine of the variant asked for is not installed.
        ParityError: the variant asked for does not compute here what the bundle says.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        variant: str | None = None,
        threads: int | None = None,
        allow_refused: bool = False,
        explain: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}", expected="at least 1")
        self.threads = threads or usable_threads()
        self.bundle = open_bundle(path)
        try:
            refused = self.bundle.manifest.refused
            if refused is not None and not allow_refused:
                raise BundleError(
                    f"{path} is marked as refused: {refused}", do="use another bundle, or allow it with --allow-refused"
                )
            self.task = self.bundle.manifest.task
            if explain and variant is None:
                variant = explaining(self.bundle.manifest)
            chosen = choose(self.bundle, asked=variant, threads=self.threads)
            if explain and not getattr(chosen.engine, "class_token", False):
                raise InputError(
                    f"{chosen.candidate.name} cannot show where it looked",
                    expected="a native variant of a model with a class token",
                    do="leave --explain out, or name a native variant",
                )
        except BaseException:
            self.bundle.close()
            raise
        self.variant, self.choice = chosen.candidate.name, chosen.sentence
        self.precision = chosen.engine.precision
        self._prepare = Preprocessor(self.bundle.preprocess, threads=self.threads)
        self._prepare_one_of_many = Preprocessor(self.bundle.preprocess, threads=1)
        self._loaded: Engine | None = chosen.engine

    @overload
    def predict(self, images: Image, *, frame: int | None = None) -> Answer: ...
    @overload
    def predict(self, images: list[Image], *, frame: int | None = None) -> list[Answer]: ...
    def predict(self, images: Image | list[Image], *, frame: int | None = None) -> Answer | list[Answer]:
        """Answer for one image, or for each of a list, in its order.

        Every image runs through the model by itself, so its answer does not depend on the others of the list; while one
        runs, the next ones are decoded and prepared by up to 8 of `threads`.

        Args:
            images: paths (PNG, JPEG, TIFF, BMP, GIF, WebP, DICOM), Pillow images, or arrays of uint8 or uint16 pixels,
                `[H, W]` or `[H, W, C]` with C = 1, 3 or 4.
            frame: which frame of files that hold several, from 0.

        Returns:
            An `Answer`, or a list of them. In a list an image that cannot be answered has `error` set; the others are answered.

        Raises:
            ImageError: a single image cannot be read.
            InputError: the session is closed; or the model's answer to a single image is not finite.
            MissingExtra: a single DICOM file, and its reader is not installed.
        """
        if isinstance(images, list):
            return list(self.stream(images, frame=frame))
        engine, source, start = self._engine(), _source(images, 0), perf_counter()
        tensor = self._prepare(_pixels(images, source, frame))
        return self._decide(engine, source, tensor, start)

    def stream(self, images: Iterable[Image], *, frame: int | None = None) -> Iterator[Answer]:
        """As `predict` of a list, but each answer as soon as it is there; at most 16 images are taken ahead of it."""
        engine, rest = self._engine(), iter(images)
        first = list(islice(rest, 2))
        prepared: Iterator[_Prepared]
        if self.threads == 1 or len(first) < 2:
            prepared = (self._start(image, number, frame) for number, image in enumerate(chain(first, rest)))
        else:
            prepared = self._ahead(chain(first, rest), frame)
        return (self._finish(engine, each) for each in prepared)

    def prepare(self, image: Image, *, frame: int | None = None) -> np.ndarray:
        """The tensor that the model sees, float32 `[C, S, S]`. Raises as `predict` of a single image."""
        return self._prepare(_pixels(image, _source(image, 0), frame))

    def run_prepared(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """The model's bare outputs for prepared images.

        Args:
            batch: float32 `[N, C, S, S]`, any N.

        Returns:
            float32 "logits" `[N, K]` unless the task is embedding, "embedding" `[N, D]` where the model gives one.

        Raises:
            InputError: another dtype or shape, or the session is closed.
        """
        spec = self.bundle.preprocess
        expected = (spec.channels, spec.size, spec.size)
        if batch.dtype != np.float32 or batch.shape[1:] != expected:
            raise InputError(f"the batch is {batch.dtype} {list(batch.shape)}", expected=f"float32 {['N', *expected]}")
        return self._engine()(batch)

    def heat(self, batch: np.ndarray) -> np.ndarray:
        """What the class token attends to in the last layer, mean over heads: float32 `[N, grid, grid]`, patches row by row.

        Args:
            batch: prepared images, float32 `[N, C, S, S]`, any N.

        Raises:
            InputError: what runs is no native variant of a model with a class token, or the session is closed.
        """
        engine = self._engine()
        if not hasattr(engine, "heat"):
            raise InputError(f"{self.variant} cannot show where it looked", do="open the session with explain=True")
        found: np.ndarray = engine.heat(batch)
        return found

    def close(self) -> None:
        """Let go of the model and the file. Answers under way in other threads are finished first by them."""
        self._loaded = None
        self.bundle.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _engine(self) -> Engine:
        engine = self._loaded
        if engine is None:
            raise InputError(f"the session on {self.bundle.path} is closed", do="open a new one with edgefm.Session(path)")
        return engine

    def _decide(self, engine: Engine, source: str, tensor: np.ndarray, start: float) -> Answer:
        outputs = engine(tensor[None])
        try:
            answer = answered(source, outputs, self.task, self.variant)
        except InputError as error:
            raise ImageError(f"{source}: {error.found}", expected=error.expected, do=error.do) from error
        answer.milliseconds = (perf_counter() - start) * 1e3
        return answer

    def _ahead(self, images: Iterable[Image], frame: int | None) -> Iterator[_Prepared]:
        """Prepare images in threads, a bounded number of them ahead, and give them back in order."""
        from concurrent.futures import ThreadPoolExecutor

        workers = min(self.threads, MOST_WORKERS)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="edgefm-prepare")
        waiting: deque[Future[_Prepared]] = deque()
        try:
            for number, image in enumerate(images):
                waiting.append(pool.submit(self._start, image, number, frame))
                if len(waiting) == 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, image: Image, number: int, frame: int | None) -> _Prepared:
        source, start = _source(image, number), perf_counter()
        try:
            tensor = self._prepare_one_of_many(_pixels(image, source, frame))
        except EdgeFMError as error:
            return _Prepared(source, None, str(error), perf_counter() - start)
        return _Prepared(source, tensor, None, perf_counter() - start)

    def _finish(self, engine: Engine, prepared: _Prepared) -> Answer:
        source, tensor, error, seconds = prepared
        start = perf_counter() - seconds
        if tensor is not None:
            try:
                return self._decide(engine, source, tensor, start)
            except ImageError as found:
                error = str(found)
        return Answer(source=source, variant=self.variant, milliseconds=(perf_counter() - start) * 1e3, error=error)


def _source(image: Image, number: int) -> str:
    if isinstance(image, (str, os.PathLike)):
        return str(image)
    return f"array {number}" if isinstance(image, np.ndarray) else f"image {number}"


def _pixels(image: Image, source: str, frame: int | None) -> np.ndarray:
    """Pixels of anything that `predict` takes; arrays are checked by the preparation."""
    if isinstance(image, np.ndarray):
        return image
    pillow = sys.modules.get("PIL.Image")
    if isinstance(image, (str, os.PathLike)):
        from .decode import decode

        return decode(Path(image), frame=frame)
    if pillow is not None and isinstance(image, pillow.Image):
        from .decode import from_pillow

        return from_pillow(image, source)
    raise ImageError(
        f"{source} is a {type(image).__name__}", expected="a path, a Pillow image or an array of uint8 or uint16 pixels"
    )
