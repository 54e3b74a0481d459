"""Variants as older processors would run them, held to themselves on this one: evidence of parity.

Not contenders (`contenders.py`): a cap makes no other model, so it has no metrics, and no say at the gate. Not the processes
(`capped.py`).

Why at most `MOST` images, and which. Let d_i be how far the probabilities of image i may move before its decision changes:

    binary       |p - t|             p: probability of the positive label, t: its threshold
    multilabel   min_k |p_k - t_k|
    multiclass   (p_1 - p_2) / 2     of the two most probable: each may move towards the other

A decision changes only where a probability moves by d_i or more. So those with the smallest d_i change first, and `MOST` of
them are asked; any other takes a move of at least the smallest d_i left out, `beyond`, which stands beside the largest move
that was seen. The moves of the others are not measured. But a logit that is off by dz moves p by p (1 - p) dz: round-off, and
what int8 makes of it, moves probabilities most between the labels, where thresholds are, so these images tend to show how large
it gets, and where that is far below `beyond`, more of them would hardly show another flip. Embeddings decide nothing: there the
images are evenly spaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..errors import InputError
from ..runtime.instructions import caps
from ..runtime.select import Candidate, candidates
from .answers import Answers, Images, collect
from .capped import CAPPED, Capped
from .contenders import Contender
from .parity import LIMIT
from .statement import difference, flipped

Array = npt.NDArray[Any]
MOST = 80  # under three caps and in six variants an image takes 0.3 s


def older(
    bundle: Bundle, images: Images, answers: Sequence[Answers], *, bar: Callable[[float, float], None]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Let every variant that answered answer again under each cap that its engine has, for the images nearest to a change.

    One variant after the other, its caps side by side: so there are few processes at a time.

    Args:
        images: as the variants answered for; the pixels of those that are asked are read again.
        answers: of the bundle's own variants, uncapped.

    Returns:
        A record per variant and cap: `name`, such as "openvino-int8 capped to AVX2"; `variant`, `cap`; `images`, how many were
        asked; `largest_difference` from the same variant uncapped (see `statement.difference`); `flips`, how many of them it
        decides otherwise, None for an embedding; `beyond`, see above, None where all were asked and for an embedding;
        `wrong`, how it contradicts the golden outputs, or ""; `passed`, False where it runs in fp32 or on the native engine,
        and differs by more than `parity.LIMIT`. And by name why others cannot run under a cap.

    Raises:
        InputError: a process has ended. ImageError, ParityError: as `answers.collect`.
    """
    mine = {each.contender.name: each for each in answers}
    able = [each for each in candidates(bundle.manifest)[0] if each.name in mine]
    records: list[dict[str, Any]] = []
    reasons = {
        f"{each.name} capped": f"{each.variant.engine} has no switch for its instruction set"
        for each in able
        if each.variant.engine not in CAPPED
    }
    able = [each for each in able if each.variant.engine in CAPPED]
    started = time.monotonic()
    for number, candidate in enumerate(able):

        def told(share: float, _: float, before: int = number) -> None:
            done = (before + share) / len(able)
            bar(done, (time.monotonic() - started) * (1 - done) / done)

        own = mine[candidate.name]
        with ExitStack() as running:
            capped, without = _under_caps(bundle, candidate, own.contender, running)
            reasons |= without
            if capped:
                records += _compared(images, capped, own, told)
    return records, reasons


def nearest(own: Answers) -> tuple[Array, float | None]:
    """Which images are asked: at most `MOST` positions, ascending, int64, of equals the first; and `beyond`, see `older`."""
    if own.probabilities is None:
        assert own.embedding is not None
        count = len(own.embedding)
        asked = min(count, MOST)
        return np.arange(asked) * count // asked, None
    distance = _distance(own.probabilities, own)
    order = np.argsort(distance, kind="stable")
    rest = distance[order[MOST:]]
    return np.sort(order[:MOST]), float(rest[0]) if len(rest) else None


def _distance(probabilities: Array, own: Answers) -> Array:
    """d_i, see above: float64 `[N]`, 0 to 1."""
    task = own.contender.task
    if task.kind == "multiclass":
        second, first = np.sort(probabilities, axis=1)[:, -2:].T
        return np.asarray((first - second) / 2)
    if task.kind == "binary":
        return np.abs(probabilities[:, 1] - task.thresholds[0])
    return np.asarray(np.abs(probabilities - np.array(task.thresholds)).min(axis=1))


def _under_caps(
    bundle: Bundle, candidate: Candidate, own: Contender, running: ExitStack
) -> tuple[dict[str, Contender], dict[str, str]]:
    """By cap a contender for as long as `running`; by name why others are none."""
    able = [cap for cap in caps() if candidate.precision != "bf16" or cap.bf16]
    started = [(cap, running.enter_context(closing(Capped(bundle.path, candidate.name, cap)))) for cap in able]  # side by side
    found, reasons = {}, {}
    for cap, child in started:
        word = str(cap.openvino)
        name = f"{candidate.name} capped to {word}"
        try:
            found[word] = replace(own, name=name, predict=child, wrong=child.ready())
        except InputError as error:
            reasons[name] = str(error).rstrip(".")
    return found, reasons


def _compared(
    images: Images, capped: dict[str, Contender], own: Answers, bar: Callable[[float, float], None]
) -> list[dict[str, Any]]:
    """Their records, in the order of the caps."""
    asked, beyond = nearest(own)
    embeddings = own.probabilities is None
    answers = collect(_Asked(images, asked), list(capped.values()), reference=None, embeddings=embeddings, bar=bar)
    before = replace(
        own,
        probabilities=None if own.probabilities is None else own.probabilities[asked],
        decided=None if own.decided is None else own.decided[asked],
        embedding=None if own.embedding is None else own.embedding[asked],
        cosine=None,
    )
    exact = own.contender.precision == "fp32" or own.contender.name.startswith("native")
    records = []
    for cap, each in zip(capped, answers, strict=True):
        largest = difference(each, before)
        records.append(
            {
                "name": each.contender.name,
                "variant": own.contender.name,
                "cap": cap,
                "images": len(asked),
                "largest_difference": largest,
                "flips": None if embeddings else int(flipped(each, before).sum()),
                "beyond": beyond,
                "wrong": each.contender.wrong,
                "passed": not exact or (largest is not None and largest <= LIMIT),
            }
        )
    return records


class _Asked:
    """Some of the images. An `answers.Images`."""

    labels = None
    patients = None

    def __init__(self, images: Images, asked: Array) -> None:
        self._images, self._asked = images, [int(index) for index in asked]
        self.rows = [images.rows[index] for index in self._asked]

    def __len__(self) -> int:
        return len(self._asked)

    def pixels(self, index: int) -> Array:
        return self._images.pixels(self._asked[index])
