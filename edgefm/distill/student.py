"""The student before training: what it will answer, and what of its features can be compared with the teacher's.

Not its training, and not the table of presets (`models/students.py`).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..models import LoadedModel, build_student
from ..models.attention import AttentionEncoder
from ..models.encoder import TimmEncoder
from ..models.loaded import Attended
from ..spec.manifest import Ancestor
from ..spec.recipe import Recipe
from ..spec.task import Task, make_task


def make_student(teacher: LoadedModel, recipe: Recipe, *, task: Task, embedding: int) -> LoadedModel:
    """A student of `teacher`, whose preprocessing it takes.

    Args:
        task: what it will answer. Where that is "embedding", its last layer is the projection into the teacher's space:
            `pooling` "projected".
        embedding: width of the teacher's.
    """
    answers = make_task("multilabel", tuple(map(str, range(embedding)))) if task.kind == "embedding" else task
    student = build_student(
        recipe.student, task=answers, preprocess=teacher.preprocess, seed=recipe.seed, pretrained=recipe.distill.pretrained
    )
    assert isinstance(student.module, TimmEncoder)
    if task.kind == "embedding":
        student.module.pooling = "projected"
    ancestors = student.ancestors
    if recipe.distill.pretrained:
        ancestors += (Ancestor(role="student", name=student.name, licence=student.licence, sha256=student.sha256),)
    return replace(student, task=task, ancestors=ancestors)


@torch.no_grad()
def look_at(student: LoadedModel) -> Attended:
    """What the student answers an empty image, its grid of features (`tokens`, None where it has none) and its attention
    included."""
    spec, module = student.preprocess, student.module
    module.tokens = True  # type: ignore[assignment]
    outputs: Attended = AttentionEncoder(module)(torch.zeros(1, spec.channels, spec.size, spec.size))
    module.tokens = False  # type: ignore[assignment]
    return outputs
