"""The accuracy gate: what int8 answers on `val` against what fp32 answers, as a table and a verdict.

Not parity (round-off between engines at one precision) and not the choice of a variant on a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.decide import decisions, probabilities
from ..spec.recipe import QuantizeRecipe
from ..spec.task import Task
from ..verify.metrics import GATED, embedding_metrics, flips, task_metrics


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to run the model, on the `val` images.

    Attributes:
        name: "fp32" for the torch model, a variant's name, or "openvino-bf16".
        metrics: name to value, NaN where the images define none.
        flips: share of decisions that differ from the torch model's, 0 to 1; None for an embedding.
        milliseconds: median per image on this machine, or None.
    """

    name: str
    metrics: Mapping[str, float]
    flips: float | None
    milliseconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured before anything is written: the torch model first, then every way to run it.

    `n` images of the `val` split of `where`.
    """

    n: int
    where: str
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def table(self) -> list[str]:
        """The rows as lines of text, one header first."""
        names = list(self.rows[0].metrics)
        head = ["", *(name.replace("_", " ") for name in names), "flipped", "ms"]
        body = [
            [row.name, *(_shown(row.metrics[name]) for name in names), self._flipped(row), _milliseconds(row.milliseconds)]
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
        return ["  ".join(text.rjust(width) for text, width in zip(line, widths)) for line in [head, *body]]

    def lines(self) -> list[str]:
        """The table, with what it is about before it and what it does not say by itself after it."""
        notes = (
            [f"{', '.join(self.undefined())}: undefined on these images, so the gate cannot see it"] if self.undefined() else []
        )
        notes += [slower(self.rows)] if slower(self.rows) else []
        return [f"on {self.n} images of the 'val' split of {self.where}; fp32 is the model itself:", *self.table(), *notes]

    def undefined(self) -> list[str]:
        """Names of the metrics that the images do not define."""
        return [name.replace("_", " ") for name, value in self.rows[0].metrics.items() if math.isnan(value)]

    def _flipped(self, row: Row) -> str:
        return "" if row.flips is None else f"{round(row.flips * self.n)} of {self.n}"


def judge(
    name: str,
    outputs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    task: Task,
    labels: np.ndarray | None,
    milliseconds: float | None = None,
) -> Row:
    """The row of one way to run the model.

    Args:
        outputs, reference: "logits" `[N, K]` (unless the task is an embedding) and "embedding" `[N, D]`; reference: the torch
            model's, in fp32.
        labels: as `task_metrics` takes them; for an embedding any classes; None leaves the cosine to the embedding, and the
            flips.
    """
    changed = None
    if task.kind == "embedding" or labels is None:
        metrics = embedding_metrics(outputs["embedding"], reference["embedding"], labels)
    if task.kind != "embedding":
        answers = probabilities(outputs["logits"], task)
        changed = flips(decisions(answers, task), decisions(probabilities(reference["logits"], task), task))
        if labels is not None:
            metrics = task_metrics(answers, labels, task)
    return Row(name=name, metrics=metrics, flips=changed, milliseconds=milliseconds)


def refusals(row: Row, reference: Row, task: Task, recipe: QuantizeRecipe, n: int) -> list[str]:
    """Why the gate says no to this row, one clause per reason; empty if it says yes.

    The metrics of `verify.metrics.GATED` may fall by `max_drop` at most, and `max_flips` of the decisions may change. Metrics
    that the images do not define decide nothing.
    """
    reasons = []
    gated = (*GATED[task.kind], "mean_cosine")
    for name in dict.fromkeys(gated):
        before, after = reference.metrics.get(name, math.nan), row.metrics.get(name, math.nan)
        if before - after > recipe.max_drop:
            reasons.append(
                f"{name.replace('_', ' ')} falls by {before - after:.4f} from {before:.4f} (at most {recipe.max_drop:g})"
            )
    if row.flips is not None and row.flips > recipe.max_flips:
        count = round(row.flips * n)
        reasons.append(f"{count} of {n} decisions change, {100 * row.flips:.1f} % (at most {100 * recipe.max_flips:g} %)")
    return reasons


def slower(rows: Sequence[Row]) -> str:
    """A sentence if int8 is not the fastest way to run the model on this machine, else ""."""
    timed = {row.name: row.milliseconds for row in rows if row.milliseconds is not None}
    small = {name: value for name, value in timed.items() if name.endswith("int8")}
    others = {name: value for name, value in timed.items() if not name.endswith("int8")}
    if not small or not others or min(small.values()) < min(others.values()):
        return ""
    best, rest = min(small, key=small.__getitem__), min(others, key=others.__getitem__)
    return (
        f"int8 is slower on this machine: {best} takes {small[best]:.1f} ms an image, {rest} {others[rest]:.1f}; "
        "each device times them for itself"
    )


def _shown(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
