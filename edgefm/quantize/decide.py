"""The accuracy gate: what one way to run the model answers on `val` against what fp32 answers, and whether that may be.

Not parity (round-off between engines at one precision), not the table (`findings.py`), not a device's choice of a variant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..runtime.decide import decisions, probabilities
from ..spec.recipe import QuantizeRecipe
from ..spec.task import Task
from ..verify.intervals import Interval
from ..verify.metrics import GATED, embedding_metrics, flips, task_metrics


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to run the model, on the `val` images.

    Attributes:
        name: "fp32" for the torch model, a variant's name, or "openvino-bf16".
        metrics: name to value, NaN where the images define none.
        flips: share of decisions that differ from the torch model's, 0 to 1; None for an embedding.
        drops: metric to its fall from the torch model's, and "flips", each with an interval; empty while it is not asked for.
        milliseconds: median of one image on this machine, or None.
    """

    name: str
    metrics: Mapping[str, float]
    flips: float | None
    drops: Mapping[str, Interval] = field(default_factory=dict)
    milliseconds: float | None = None


def judge(
    name: str,
    outputs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    task: Task,
    labels: np.ndarray | None,
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
    return Row(name=name, metrics=metrics, flips=changed)


def refusals(row: Row, reference: Row, task: Task, recipe: QuantizeRecipe, n: int) -> list[str]:
    """Why the gate says no to this row, one clause per reason; empty if it says yes.

    The metrics of `verify.metrics.GATED` may fall by `max_drop` at most, and `max_flips` of the decisions may change. Metrics
    that the images do not define decide nothing. The rule looks at the values, not at their intervals: an interval that holds
    the limit is no proof that nothing was lost, and few images would let everything pass.
    """
    reasons = []
    for name, before, drop in _drops(row, reference, task):
        if drop > recipe.max_drop:
            reasons.append(f"{name.replace('_', ' ')} falls by {drop:.4f} from {before:.4f} (at most {recipe.max_drop:g})")
    if row.flips is not None and row.flips > recipe.max_flips:
        count = round(row.flips * n)
        reasons.append(f"{count} of {n} decisions change, {100 * row.flips:.1f} % (at most {100 * recipe.max_flips:g} %)")
    return reasons


def excess(row: Row, reference: Row, task: Task, recipe: QuantizeRecipe) -> float:
    """By how much the worst of what is lost exceeds what may be lost; at most 0 exactly where there are no `refusals`."""
    over = [drop - recipe.max_drop for _, _, drop in _drops(row, reference, task)]
    if row.flips is not None:
        over.append(row.flips - recipe.max_flips)
    return max(over, default=0.0)


def _drops(row: Row, reference: Row, task: Task) -> Iterator[tuple[str, float, float]]:
    """Name, value before, and fall of each metric that the gate looks at and the images define."""
    for name in dict.fromkeys((*GATED[task.kind], "mean_cosine")):
        before, after = reference.metrics.get(name, math.nan), row.metrics.get(name, math.nan)
        if not math.isnan(before - after):
            yield name, before, before - after
