"""Parity: does an engine answer as the model does, and if not, at which stage does the difference start?

Not the search for the node (`export/locate.py`, which needs the model), and not the accuracy gate: only round-off is allowed.

    pixels ──preprocess──▶ prepared ──encoder──▶ logits, embedding ──postprocess──▶ probabilities
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, ParityError
from ..runtime.decide import probabilities
from ..spec.task import Task

Array = npt.NDArray[Any]
Stage = Literal["preprocess", "encoder", "postprocess"]
Predictor = Callable[[Array], Mapping[str, Array]]

LIMIT = 1e-3


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the model makes of one picture, in fp32.

    Attributes:
        name: of the picture.
        pixels: uint8 or uint16 `[H, W]` or `[H, W, C]`.
        prepared: float32 `[C, S, S]`.
        outputs: "logits" float32 `[K]` (unless the task is an embedding) and "embedding" float32 `[D]`.
    """

    name: str
    pixels: Array
    prepared: Array
    outputs: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The largest difference found at one stage. `limit` is `LIMIT`; `picture` is where, `what` in which units."""

    stage: Stage
    what: str
    picture: str
    difference: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the limit; NaN is not."""
        return self.difference <= LIMIT


def findings(
    prepare: Callable[[Array], Array], predict: Predictor, pictures: Sequence[Expected], task: Task
) -> tuple[Finding, ...]:
    """Hold one engine to what the model makes of generated pictures.

    Args:
        prepare: pixels to float32 `[C, S, S]`, as the runtime does it.
        predict: float32 `[N, C, S, S]` to "logits" `[N, K]` and "embedding" `[N, D]`, any N.
        pictures: at least one.

    Returns:
        preprocess: |prepared - expected|, in units of the normalised tensor. encoder: outputs for the *expected* tensor, in
        units of their standard deviation over all pictures, once picture by picture and once as one batch. postprocess:
        probabilities from pixels (an embedding task: the embedding in units of its standard deviation).
    """
    if not pictures:
        raise InputError("there are no pictures to compare on", expected="at least one")
    expected = {name: np.stack([picture.outputs[name] for picture in pictures]) for name in pictures[0].outputs}
    names = [picture.name for picture in pictures]
    prepared = np.stack([prepare(picture.pixels) for picture in pictures])
    wanted = np.stack([picture.prepared for picture in pictures])
    found = [_largest("preprocess", "the prepared tensor", names, np.abs(prepared.astype(np.float64) - wanted))]

    single = [predict(tensor[None]) for tensor in wanted]
    together = predict(wanted)
    for name, reference in expected.items():
        alone = np.concatenate([np.reshape(outputs[name], (-1, *reference.shape[1:])) for outputs in single])
        for rows, how in ((alone, "one by one"), (together[name], f"in a batch of {len(names)}")):
            if rows.shape != reference.shape:
                raise ParityError(
                    f"stage encoder: {name} {how} have the shape {list(rows.shape)}", expected=f"{list(reference.shape)}"
                )
            found.append(_largest("encoder", f"{name} {how}, in standard deviations", names, in_deviations(rows, reference)))

    final = [predict(tensor[None]) for tensor in prepared]
    if task.kind == "embedding":
        difference = in_deviations(np.concatenate([outputs["embedding"] for outputs in final]), expected["embedding"])
        found.append(_largest("postprocess", "the embedding from pixels, in standard deviations", names, difference))
    else:
        logits = np.concatenate([outputs["logits"] for outputs in final])
        difference = np.abs(_probabilities(logits, task) - _probabilities(expected["logits"], task))
        found.append(_largest("postprocess", "probabilities from pixels", names, difference))
    return tuple(found)


def first_failure(found: Sequence[Finding]) -> Finding | None:
    """The first finding, in the order of the stages, that is beyond the limit."""
    return next((finding for finding in found if not finding.passed), None)


def check(found: Sequence[Finding], who: str, where: str = "") -> None:
    """Raise `ParityError` naming the stage where the difference starts.

    Args:
        who: the engine or variant. where: more about the place, such as the node.
    """
    failure = first_failure(found)
    if failure is not None:
        raise ParityError(
            f"{who} differs from the model: stage {failure.stage}, {failure.what}, off by {failure.difference:.2g} "
            f"for the picture {failure.picture}{where}",
            expected=f"at most {LIMIT:g}",
            do="report it with the model's name and the versions that edgefm doctor prints",
        )


def in_deviations(found: Array, reference: Array) -> Array:
    """|found - reference| `[N, …]` in units of the reference's standard deviation over all of it.

    4 eps × max|reference| is taken off first: what float32 cannot tell apart. Without that, a model whose answers do not vary
    would fail on its last bit.
    """
    reference = np.asarray(reference, np.float64)
    floor = 4 * float(np.finfo(np.float32).eps) * float(np.abs(reference).max(initial=0.0))
    excess = np.abs(np.asarray(found, np.float64) - reference) - floor
    spread = max(float(reference.std()), float(np.finfo(np.float32).tiny))
    return np.asarray(np.where(excess <= 0, 0.0, excess / spread))


def _largest(stage: Stage, what: str, names: Sequence[str], difference: Array) -> Finding:
    worst = difference.reshape(len(names), -1).max(axis=1)
    index = int(np.argmax(np.where(np.isnan(worst), np.inf, worst)))
    return Finding(stage=stage, what=what, picture=names[index], difference=float(worst[index]))


def _probabilities(logits: Array, task: Task) -> Array:
    """As the runtime's, but NaN where a logit is not finite, so that the difference is found and named like any other."""
    finite = np.isfinite(logits).all(axis=1)
    result = np.full(logits.shape, np.nan)
    if finite.any():
        result[finite] = probabilities(logits[finite], task)
    return result
