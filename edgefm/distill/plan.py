"""Everything a run needs, loaded and checked against each other. Not the run: `distill.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from ..data.dataset import Dataset
from ..errors import InputError
from ..models import LoadedModel, Outputs
from ..models.attention import AttentionEncoder, attention_shapes
from ..spec.recipe import LossRecipe, Recipe
from ..spec.task import Task, make_task
from ..train.images import Images
from ..train.objective import LabelObjective, Objective
from ..train.progress import Report
from .applicable import applicable, asks, check_teaching, compares
from .attention import Pairs, compared, noted, pair_layers
from .cache import TeacherCache
from .projector import Projectors
from .questions import Questions
from .sizes import Sizes, find_sizes, short_name
from .student import look_at, make_student
from .targets import TeacherTarget
from .teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run.

    Attributes:
        teachers: one or more. caches: of their answers; none in the control arm, which learns from labels alone.
        projectors: from the student's features into each teacher's space.
        losses: the weights that apply.
        layers: whose attention is compared, of each teacher; none of one that shows none.
        train: int64 `[N]`, positions of the images of an epoch. val: of those to validate on.
    """

    teachers: tuple[Teacher, ...]
    student: LoadedModel
    caches: tuple[TeacherCache, ...]
    projectors: tuple[Projectors, ...]
    losses: LossRecipe
    images: Images
    train: np.ndarray
    val: np.ndarray
    recipe: Recipe
    device: torch.device
    layers: tuple[Pairs, ...] = ()

    @property
    def dataset(self) -> Dataset:
        return self.images.dataset

    @property
    def task(self) -> Task:
        return self.student.task

    @property
    def val_labels(self) -> np.ndarray | None:
        """Labels of the images to validate on."""
        return None if self.dataset.labels is None else self.dataset.labels[self.val]

    @property
    def learner(self) -> nn.Module:
        """The student's module, which says what its attention layers compare where that is learned."""
        names = noted((layer for pairs in self.layers for _, layer in pairs), self.losses)
        return AttentionEncoder(self.student.module, names) if names else self.student.module

    @property
    def beside(self) -> nn.Module | None:
        """The projectors that learn along."""
        learn = [each for each in self.projectors if each.learn]
        return learn[0] if len(learn) == 1 else nn.ModuleList(learn) if learn else None

    def objective(self) -> Objective:
        """What the student is held to."""
        labels, task = self.dataset.labels, self.task
        alone: LabelObjective | None = None
        if self.losses.labels:
            assert labels is not None
            known = self.dataset.labelled("train")
            alone = LabelObjective(labels, known, task.kind, len(task.labels), self.device, self.losses.labels)
        if not self.caches or not asks(self.losses):
            assert alone is not None
            return alone
        return TeacherTarget(
            self.caches,
            self.losses,
            self.projectors,
            alone,
            kind=task.kind,
            temperature=self.recipe.distill.temperature,
            device=self.device,
            layers=self.layers,
        )


def make_plan(
    teachers: tuple[Teacher, ...], dataset: Dataset, recipe: Recipe, *, device: torch.device, cache: Path, report: Report
) -> Plan:
    """The plan of a student that learns from `teachers`.

    Its task is that of those with a classifier, which must agree, or the data's (`asked_task`); its preprocessing is the first
    teacher's, and so is the space of its embedding where it has no classes.

    Args:
        dataset: its images have been read once. cache: the folder of the teacher cache; nothing is written yet.
        report: gets a sentence for each loss that cannot apply.

    Raises:
        InputError: teachers and data do not fit, or nothing is left to learn.
    """
    images, settings, known = Images(dataset), recipe.distill, recipe.distill.task == "teacher"
    if known:
        for teacher in teachers:
            check_labels(teacher.about, dataset)
    else:
        check_teaching(dataset, "distill.task=data")
    task = asked_task(teachers, dataset, settings.task)
    if dataset.labels is not None and task.kind == "embedding":
        report.line(
            "the teacher has no classifier: the student learns its embedding, and the labels only measure it "
            "(distill.task=data makes it learn them, too)"
        )
    sizes = [find_sizes(cache / short_name(teacher.identity), teacher, images) for teacher in teachers]
    student = make_student(teachers[0].about, recipe, task=task, embedding=sizes[0].embedding)
    # What it learns is the teachers', and so is the licence; that of the weights it starts from stays in the lineage.
    student = replace(student, licence=" AND ".join(dict.fromkeys(teacher.about.licence for teacher in teachers)))
    seen = look_at(student)
    grids = any(each.grid for each in sizes), seen.tokens is not None
    mine = attention_shapes(seen)
    attentive = any(each.attention for each in sizes), bool(mine)
    losses = applicable(settings.losses, dataset, task, known=known, grids=grids, attentive=attentive, report=report)
    layers = [
        pair_layers(settings.layers, each.attention, mine, teacher.about.name) if compares(losses) and each.attention else ()
        for teacher, each in zip(teachers, sizes)
    ]
    if not losses.logits and task.kind != "embedding":
        # Thresholds and temperature belong to the teacher's logits, which this student does not learn.
        student = replace(student, task=make_task(task.kind, task.labels))
    caches = []
    for teacher, each, pairs in zip(teachers, sizes, layers):
        _check_use(teacher, each, losses)
        questions = Questions(
            teacher,
            each,
            images,
            views=min(settings.views, settings.epochs) if asks(losses) else 0,
            patches=settings.tokens if losses.tokens else 0,
            attention=noted((layer for layer, _ in pairs), losses),
            val=known,
            seed=recipe.seed,
            augment=settings.augment,
            frame=recipe.data.frame,
        )
        caches.append(TeacherCache(cache, teacher, questions, images, report.line))
        if pairs:
            report.line(compared(pairs, each.attention, mine, teacher.about.name, losses))
    student.module.tokens = losses.tokens > 0  # type: ignore[assignment]
    return Plan(
        teachers=teachers,
        student=student,
        caches=tuple(caches),
        projectors=_projectors(sizes, seen, losses, task, recipe.seed),
        losses=losses,
        images=images,
        train=dataset.of("train"),
        val=np.flatnonzero(dataset.splits == "val"),
        recipe=recipe,
        device=device,
        layers=tuple(layers),
    )


def asked_task(teachers: tuple[Teacher, ...], dataset: Dataset, whose: Literal["teacher", "data"]) -> Task:
    """What the student answers: the task of its teachers, or that of its data (see `DistillRecipe.task`)."""
    return common_task(teachers) if whose == "teacher" else make_task(dataset.task.kind, dataset.task.labels)


def common_task(teachers: tuple[Teacher, ...]) -> Task:
    """The task of the teachers with a classifier; of several without their thresholds, which belong to one's own logits.

    Raises:
        InputError: they differ.
    """
    abouts = [teacher.about for teacher in teachers if teacher.about.task.kind != "embedding"]
    for about in abouts[1:]:
        mine, first = about.task, abouts[0].task
        if (mine.kind, mine.labels) != (first.kind, first.labels):
            raise InputError(
                f"the teacher {about.name} answers {some(mine.labels)} ({mine.kind})",
                expected=f"what {abouts[0].name} answers, in that order: {some(first.labels)} ({first.kind})",
                do="take teachers of one task",
            )
    if not abouts:
        return make_task("embedding")
    return abouts[0].task if len(abouts) == 1 else make_task(abouts[0].task.kind, abouts[0].task.labels)


def check_labels(teacher: LoadedModel, dataset: Dataset) -> None:
    """Raise `InputError` where the data have other labels than the teacher."""
    task = teacher.task
    if dataset.labels is None or task.kind == "embedding":
        return
    if (dataset.task.kind, dataset.task.labels) != (task.kind, task.labels):
        raise InputError(
            f"{dataset.name} is labelled {', '.join(dataset.task.labels)} ({dataset.task.kind})",
            expected=f"the labels of the teacher {teacher.name}: {some(task.labels)} ({task.kind})",
            do="rename the labels, take a teacher of this task, or learn its features beside your labels: distill.task=data",
        )


def some(labels: tuple[str, ...]) -> str:
    """Labels for a sentence."""
    return ", ".join(labels) if len(labels) <= 8 else f"{', '.join(labels[:8])} and {len(labels) - 8} more"


def _check_use(teacher: Teacher, sizes: Sizes, losses: LossRecipe) -> None:
    used = losses.features or (losses.logits and sizes.logits) or (losses.tokens and sizes.grid)
    used = used or (compares(losses) and sizes.attention)
    if asks(losses) and not used:
        raise InputError(
            f"nothing of the teacher {teacher.about.name} is learned: it has no classifier",
            do="give distill.losses.features a weight, or leave it out",
        )


def _projectors(sizes: list[Sizes], seen: Outputs, losses: LossRecipe, task: Task, seed: int) -> tuple[Projectors, ...]:
    """From what the student shows into each teacher's space. It answers in the first one's itself where it has no classes."""
    found, width = [], seen.embedding.shape[1]
    for number, each in enumerate(sizes):
        itself = task.kind == "embedding" and number == 0
        tokens = None
        if losses.tokens and each.grid is not None:
            assert seen.tokens is not None
            tokens = seen.tokens.shape[1], each.grid[0]
        features = (width, each.embedding) if losses.features and not itself else None
        found.append(Projectors(features, tokens, seed + number))
    return tuple(found)
