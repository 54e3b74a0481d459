"""The control arm: what the student learns without a teacher, to see what the teacher adds. Not distillation: `plan.py`."""

from __future__ import annotations

import msgspec
import numpy as np
import torch

from ..data.dataset import Dataset
from ..spec.recipe import LossRecipe, Recipe
from ..spec.task import make_task
from ..train.images import Images
from .applicable import check_teaching
from .plan import Plan, check_labels
from .student import make_student
from .teacher import Teacher

ALONE = LossRecipe(logits=0.0, features=0.0, tokens=0.0, labels=1.0)


def make_control(teachers: tuple[Teacher, ...], dataset: Dataset, recipe: Recipe, *, device: torch.device) -> Plan:
    """The plan of the control arm: the same student, views, order and number of updates, from labels alone.

    Nothing of the first teacher is used but its preprocessing and its labels (the data's own where it has no classifier or
    `distill.task` says so), and nothing of the others; no threshold, no temperature, no licence. An epoch shows as many images
    as there are in train; where only some have labels, these again and again.

    Raises:
        InputError: there are no labels, or not the teacher's, or they are all the same.
    """
    about = teachers[0].about
    for teacher in teachers:
        teacher.let_go()
    if recipe.distill.task == "teacher":
        check_labels(about, dataset)
    check_teaching(dataset, "--without-teacher")
    losses = msgspec.structs.replace(recipe.distill, losses=ALONE)
    task = make_task(dataset.task.kind, dataset.task.labels)
    return Plan(
        teachers=teachers,
        student=make_student(about, msgspec.structs.replace(recipe, distill=losses), task=task, embedding=0),
        caches=(),
        losses=ALONE,
        projectors=(),
        images=Images(dataset),
        train=np.resize(dataset.labelled("train"), len(dataset.of("train"))),
        val=np.flatnonzero(dataset.splits == "val"),
        recipe=msgspec.structs.replace(recipe, distill=losses),
        device=device,
    )
