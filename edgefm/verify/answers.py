"""What every contender answers for the same images, one image at a time, as a device would.

Not what the answers are worth (`statement.py`). Pixels are read once and forgotten: what is kept of an image is a few numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError, ParityError
from ..runtime.decide import decisions, probabilities
from ..runtime.preprocess import Preprocessor
from ..spec.preprocess import Preprocess
from .contenders import Contender

Array = npt.NDArray[Any]


class Images(Protocol):
    """Images with what is known about them; `data.Dataset` is one.

    Attributes:
        rows: spreadsheet row of each image, or None.
        labels: int `[N]`, or 0/1 `[N, K]`, or None. patients: one id per image, or None.
    """

    @property
    def rows(self) -> Sequence[int | None]: ...
    @property
    def labels(self) -> Array | None: ...
    @property
    def patients(self) -> Sequence[str] | None: ...
    def __len__(self) -> int: ...
    def pixels(self, index: int) -> Array:
        """uint8 or uint16, `[H, W]` or `[H, W, C]`. Raises `ImageError`."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one contender answers.

    Attributes:
        contender: who. Its task says whether there are probabilities.
        probabilities: float64 `[N, K]`, or None for an embedding.
        decided: int64 `[N]`, or bool `[N, K]` for multilabel, by the contender's own thresholds; None for an embedding.
        embedding: float32 `[N, D]`, or None where the task has probabilities.
        cosine: float64 `[N]`, -1 to 1, of each embedding and the reference's; None without a reference, or where one of them
            has no embedding, or one of another width.
    """

    contender: Contender
    probabilities: Array | None
    decided: Array | None
    embedding: Array | None
    cosine: Array | None


def collect(
    images: Images,
    contenders: Sequence[Contender],
    *,
    reference: Contender | None,
    embeddings: bool,
    bar: Callable[[float, float], None],
) -> list[Answers]:
    """Let every contender answer for every image; each image is read once, and prepared once for each way of preparing.

    Args:
        reference: one of the contenders, or None.
        embeddings: the embedding is the answer, whatever else the contenders give.
        bar: takes the share that is done, 0 to 1, and the seconds left.

    Raises:
        InputError: no images, or a reference without the output that the bundle answers with.
        ImageError: an image that cannot be read.
        ParityError: an answer that is not a finite number; names who gave it for which image.
    """
    if not len(images):
        raise InputError("there are no images to measure on", expected="at least one")
    order = sorted(contenders, key=lambda contender: contender is not reference)  # the reference answers first
    kept: dict[str, list[Array]] = {contender.name: [] for contender in order}
    cosine: dict[str, list[float]] = {contender.name: [] for contender in order}
    preparers: list[tuple[Preprocess, Preprocessor]] = []
    for contender in order:
        if all(spec != contender.preprocess for spec, _ in preparers):
            preparers.append((contender.preprocess, Preprocessor(contender.preprocess)))
    wanted, started = "embedding" if embeddings else "logits", time.monotonic()
    for index in range(len(images)):
        pixels = images.pixels(index)
        prepared = [(spec, prepare(pixels)[None]) for spec, prepare in preparers]
        direction: Array | None = None
        for contender in order:
            tensor = next(tensor for spec, tensor in prepared if spec == contender.preprocess)
            outputs = _finite(contender.predict(tensor), contender, images, index)
            if wanted not in outputs:
                raise InputError(
                    f"{contender.name} gives no {wanted}", expected=f"{wanted}, as the bundle", do="choose another"
                )
            kept[contender.name].append(np.array(outputs[wanted][0]))
            own = _direction(outputs)
            if contender is reference:
                direction = own
            if own is not None and direction is not None and own.shape == direction.shape:
                cosine[contender.name].append(float(own @ direction))
        done = (index + 1) / len(images)
        bar(done, (time.monotonic() - started) * (1 - done) / done)
    return [_answers(each, np.stack(kept[each.name]), cosine[each.name], embeddings) for each in contenders]


def _finite(outputs: Mapping[str, Array], contender: Contender, images: Images, index: int) -> Mapping[str, Array]:
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            row = images.rows[index]
            where = f"image {index + 1} of {len(images)}" if row is None else f"the image of row {row}"
            raise ParityError(
                f"{contender.name} gives {name} that are not finite numbers for {where}",
                do="do not use it; report it with the versions that edgefm doctor prints",
            )
    return outputs


def _direction(outputs: Mapping[str, Array]) -> Array | None:
    """The embedding of the one image at length 1, float64 `[D]`."""
    if "embedding" not in outputs:
        return None
    vector = np.asarray(outputs["embedding"][0], np.float64)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny))


def _answers(contender: Contender, kept: Array, cosine: list[float], embeddings: bool) -> Answers:
    close = np.array(cosine) if len(cosine) == len(kept) else None
    if embeddings:
        return Answers(contender=contender, probabilities=None, decided=None, embedding=kept, cosine=close)
    found = probabilities(kept, contender.task)
    decided = np.asarray(decisions(found, contender.task))
    return Answers(contender=contender, probabilities=found, decided=decided, embedding=None, cosine=close)
