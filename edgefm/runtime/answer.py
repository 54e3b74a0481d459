"""What the runtime says about one image.

Not a report: how it is printed is the front door's choice.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from ..errors import InputError
from ..spec.task import Task
from .decide import decisions, probabilities, sets, sure


class Answer(msgspec.Struct, kw_only=True, eq=False):
    """One image's answer, or why there is none.

    Attributes:
        source: the path as it was given, or "array 3", "image 3": the fourth of the call.
        label: the decision: a label (binary, multiclass), the labels that hold (multilabel), None (embedding, error).
        probabilities: label to probability, 0 to 1, in the order of the task; empty for an embedding or an error.
        set: the labels of the conformal set, in the order of the task; None where the bundle has no quantile.
        abstain: whether the set is no answer: it holds not exactly one label, or another than `label`. None where `set` is.
        embedding: float32 `[D]`, or None if the model gives none.
        variant: what computed it, e.g. "openvino-int8"; "openvino-bf16" is openvino-fp32 run in bf16.
        milliseconds: this image's own decoding, preparation, model run and decision, as wall time. Not the loading of the
            model, and not waiting for other images of the call. While other images of a list are being decoded, the
            stages share the processor with them, so an image takes longer than alone.
        error: one line that says what is wrong with this image, or None.
    """

    source: str
    label: str | tuple[str, ...] | None = None
    probabilities: dict[str, float] = {}
    set: tuple[str, ...] | None = None
    abstain: bool | None = None
    embedding: np.ndarray | None = None
    variant: str
    milliseconds: float = 0.0
    error: str | None = None

    def record(self) -> dict[str, Any]:
        """The same as plain values for JSON; the embedding becomes a list of numbers."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.embedding is not None:
            fields["embedding"] = self.embedding.tolist()
        return fields


def answered(source: str, outputs: dict[str, np.ndarray], task: Task, variant: str) -> Answer:
    """The answer for one image; its time is still open.

    Args:
        outputs: "logits" float32 `[1, K]` unless the task is embedding, "embedding" float32 `[1, D]` where the model has one.

    Raises:
        InputError: the model answered something that is not a finite number.
    """
    embedding = outputs.get("embedding")
    answer = Answer(source=source, variant=variant)
    if embedding is not None:
        if not np.isfinite(embedding).all():
            raise InputError("the model's embedding is not finite", do="do not use this answer; try another variant")
        answer.embedding = embedding[0]
    if task.kind != "embedding":
        chances = probabilities(outputs["logits"], task)
        decided = decisions(chances, task)[0]
        answer.probabilities = dict(zip(task.labels, chances[0].tolist(), strict=True))
        if task.kind == "multilabel":
            answer.label = tuple(label for label, holds in zip(task.labels, decided, strict=True) if holds)
        else:
            answer.label = task.labels[decided]
        if task.conformal is not UNSET:
            held = sets(chances, task)
            answer.set = tuple(label for label, holds in zip(task.labels, held[0], strict=True) if holds)
            answer.abstain = not sure(held, decided[None])[0]
    return answer
