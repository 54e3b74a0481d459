"""What a model answers: the task, its labels, its decision rule.

Not how well it answers (that is in the manifest) and not how logits are computed.

| kind | logits | probabilities | decision |
|---|---|---|---|
| binary | `[N, 2]` | softmax(z / T) | labels[1] when p[1] >= thresholds[0], else labels[0] |
| multiclass | `[N, K]` | softmax(z / T) | argmax, first of equals |
| multilabel | `[N, K]` | sigmoid(z / T) | every label k with p[k] >= thresholds[k] |
| embedding | none | none | none |

labels[1] of a binary task is the **positive** class: sensitivity is its recall. T is `temperature`
(Guo et al. 2017, section 4.2).

With `conformal`, an answer of a binary or multiclass task is also a set: every label k with 1 - p[k] <= quantile. Among images
like those that the quantile is from, the set holds the true label for a share of `coverage` (Sadinle, Lei and Wasserman 2019).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

TaskKind = Literal["binary", "multiclass", "multilabel", "embedding"]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z")]  # no control character: C's strings end at U+0000


class Conformal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How sets are made. `coverage`: the share of them that shall hold the true label. `quantile`: of 1 - p[true label]."""

    coverage: Annotated[float, Meta(gt=0.0, lt=1.0)]
    quantile: Probability


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The task of one model.

    Attributes:
        kind: see the table above.
        labels: names in the order of the logits; empty for an embedding.
        thresholds: one for binary, one per label for multilabel, none otherwise.
        temperature: divides the logits before softmax or sigmoid.
        conformal: how sets of labels are made; unset, and then absent from what is written, where there are none.
    """

    kind: TaskKind
    labels: tuple[Line, ...] = ()
    thresholds: tuple[Probability, ...] = ()
    temperature: Annotated[float, Meta(gt=0.0)] = 1.0
    conformal: Conformal | UnsetType = UNSET

    def __post_init__(self) -> None:
        fewest = {"binary": 2, "multiclass": 2, "multilabel": 1, "embedding": 0}[self.kind]
        if len(self.labels) < fewest or (self.kind in ("binary", "embedding") and len(self.labels) != fewest):
            raise ValueError(f"a {self.kind} task cannot have {len(self.labels)} labels")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        wanted = {"binary": 1, "multilabel": len(self.labels)}.get(self.kind, 0)
        if len(self.thresholds) != wanted:
            raise ValueError(f"a {self.kind} task has {wanted} thresholds, not {len(self.thresholds)}")
        if self.conformal is not UNSET and self.kind not in ("binary", "multiclass"):
            raise ValueError(f"a {self.kind} task has no conformal sets")


def make_task(kind: TaskKind, labels: tuple[str, ...] = ()) -> Task:
    """The task with its default thresholds (0.5) and temperature 1."""
    count = {"binary": 1, "multilabel": len(labels)}.get(kind, 0)
    return Task(kind=kind, labels=labels, thresholds=(0.5,) * count)
