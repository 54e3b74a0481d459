"""Everything a run needs, loaded and checked against each other. Not the run: `distill.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from ..data.dataset import Dataset
from ..errors import InputError
from ..models import LoadedModel
from ..spec.recipe import LossRecipe, Recipe
from ..spec.task import Task, make_task
from ..train.images import Images
from ..train.objective import LabelObjective, Objective
from ..train.progress import Report
from .cache import TeacherCache
from .projector import Projectors
from .questions import Questions
from .sizes import Sizes, find_sizes, short_name
from .student import look_at, make_student
from .targets import TeacherTarget
from .teacher import Teacher

ALONE = LossRecipe(logits=0.0, features=0.0, tokens=0.0, labels=1.0)  # of the control arm


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run.

    Attributes:
        cache: of the teacher's answers; None in the control arm, which learns from labels alone.
        losses: the weights that apply.
        train: int64 `[N]`, positions of the images of an epoch. val: of those to validate on.
    """

    teacher: Teacher
    student: LoadedModel
    cache: TeacherCache | None
    losses: LossRecipe
    projectors: Projectors
    images: Images
    train: np.ndarray
    val: np.ndarray
    recipe: Recipe
    device: torch.device

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

    def objective(self) -> Objective:
        """What the student is held to."""
        labels, task = self.dataset.labels, self.task
        alone: LabelObjective | None = None
        if self.losses.labels:
            assert labels is not None
            known = self.dataset.labelled("train")
            alone = LabelObjective(labels, known, task.kind, len(task.labels), self.device, self.losses.labels)
        if self.cache is None or not _asks(self.losses):
            assert alone is not None
            return alone
        return TeacherTarget(
            self.cache,
            self.losses,
            self.projectors,
            alone,
            kind=task.kind,
            temperature=self.recipe.distill.temperature,
            device=self.device,
        )


def make_plan(teacher: Teacher, dataset: Dataset, recipe: Recipe, *, device: torch.device, cache: Path, report: Report) -> Plan:
    """The plan of a student that learns from `teacher`.

    Args:
        dataset: its images have been read once. cache: the folder of the teacher cache; nothing is written yet.
        report: gets a sentence for each loss that cannot apply.

    Raises:
        InputError: teacher and data do not fit, or nothing is left to learn.
    """
    about, images, settings = teacher.about, Images(dataset), recipe.distill
    check_labels(about, dataset)
    if dataset.labels is not None and about.task.kind == "embedding":
        report.line("the teacher has no classifier: the student learns its embedding, and the labels only measure it")
    sizes = find_sizes(cache / short_name(teacher.identity), teacher, images)
    student = make_student(about, recipe, task=about.task, embedding=sizes.embedding)
    # What it learns is the teacher's, and so is the licence; that of the weights it starts from stays in the lineage.
    student = replace(student, licence=about.licence)
    seen = look_at(student)
    losses = _applicable(
        settings.losses, dataset, about.task, grids=(sizes.grid is not None, seen.tokens is not None), report=report
    )
    questions = Questions(
        teacher,
        sizes,
        images,
        views=min(settings.views, settings.epochs) if _asks(losses) else 0,
        patches=settings.tokens if losses.tokens else 0,
        seed=recipe.seed,
        augment=settings.augment,
        frame=recipe.data.frame,
    )
    projectors = Projectors(
        (seen.embedding.shape[1], sizes.embedding) if losses.features and about.task.kind != "embedding" else None,
        _widths(seen.tokens, sizes) if losses.tokens else None,
        recipe.seed,
    )
    student.module.tokens = losses.tokens > 0  # type: ignore[assignment]
    return Plan(
        teacher=teacher,
        student=student,
        cache=TeacherCache(cache, teacher, questions, images, report.line),
        losses=losses,
        projectors=projectors,
        images=images,
        train=dataset.of("train"),
        val=np.flatnonzero(dataset.splits == "val"),
        recipe=recipe,
        device=device,
    )


def make_control(teacher: Teacher, dataset: Dataset, recipe: Recipe, *, device: torch.device) -> Plan:
    """The plan of the control arm: the same student, views, order and number of updates, from labels alone.

    Nothing of the teacher is used but its preprocessing and its labels (the data's own where it has no classifier); no
    threshold, no temperature, no licence. An epoch shows as many images as there are in train; where only some have labels,
    these again and again.

    Raises:
        InputError: there are no labels, or not the teacher's, or they are all the same.
    """
    about = teacher.about
    teacher.let_go()
    if dataset.labels is None:
        raise InputError(
            f"{dataset.name} has no labels, and --without-teacher learns from labels alone", do="add labels, or leave it out"
        )
    check_labels(about, dataset)
    if not _teach(dataset):
        raise InputError(
            f"all images of train in {dataset.name} that have labels have the same", expected="two classes to tell apart"
        )
    losses = msgspec.structs.replace(recipe.distill, losses=ALONE)
    task = make_task(dataset.task.kind, dataset.task.labels)
    return Plan(
        teacher=teacher,
        student=make_student(about, msgspec.structs.replace(recipe, distill=losses), task=task, embedding=0),
        cache=None,
        losses=ALONE,
        projectors=Projectors(None, None, recipe.seed),
        images=Images(dataset),
        train=np.resize(dataset.labelled("train"), len(dataset.of("train"))),
        val=np.flatnonzero(dataset.splits == "val"),
        recipe=msgspec.structs.replace(recipe, distill=losses),
        device=device,
    )


def check_labels(teacher: LoadedModel, dataset: Dataset) -> None:
    """Raise `InputError` where the data have other labels than the teacher."""
    task = teacher.task
    if dataset.labels is None or task.kind == "embedding":
        return
    if (dataset.task.kind, dataset.task.labels) != (task.kind, task.labels):
        raise InputError(
            f"{dataset.name} is labelled {', '.join(dataset.task.labels)} ({dataset.task.kind})",
            expected=f"the labels of the teacher {teacher.name}: {_some(task.labels)} ({task.kind})",
            do="rename the labels, or take a teacher of this task",
        )


def _applicable(losses: LossRecipe, dataset: Dataset, task: Task, *, grids: tuple[bool, bool], report: Report) -> LossRecipe:
    """The weights, 0 for a loss that cannot apply, with a sentence where somebody could wonder."""
    off: dict[str, str] = {}
    if task.kind == "embedding":
        off |= {"logits": "", "labels": ""}
    elif dataset.labels is None:
        off["labels"] = f"{dataset.name} has no labels: the student learns from the teacher alone"
    elif not _teach(dataset):
        off["labels"] = "all images of train that have labels have the same: the loss on labels is switched off"
    if not all(grids):
        who = "teacher" if not grids[0] else "student"
        off["tokens"] = f"the {who} has no grid of features: the loss on tokens is switched off"
    for name, sentence in off.items():
        if getattr(losses, name) and sentence:
            report.line(sentence)
    left = msgspec.structs.replace(losses, **dict.fromkeys(off, 0.0))
    needed = [name for name in (("features",) if task.kind == "embedding" else ("logits", "labels")) if name not in off]
    if not any(getattr(left, name) for name in needed):
        what = "embedding" if task.kind == "embedding" else "classes"
        keys = " or ".join(f"distill.losses.{name}" for name in needed)
        raise InputError(f"no loss teaches the student its {what}", do=f"give {keys} a weight")
    return left


def _asks(losses: LossRecipe) -> bool:
    """Whether the teacher's answers to training images are needed."""
    return bool(losses.logits or losses.features or losses.tokens)


def _teach(dataset: Dataset) -> bool:
    """Whether the labels of train differ."""
    assert dataset.labels is not None
    labels = dataset.labels[dataset.known & (dataset.splits == "train")]
    return len(labels) > 0 and bool((labels != labels[0]).any())


def _widths(tokens: torch.Tensor | None, sizes: Sizes) -> tuple[int, int]:
    assert tokens is not None
    assert sizes.grid is not None
    return tokens.shape[1], sizes.grid[0]


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) if len(labels) <= 8 else f"{', '.join(labels[:8])} and {len(labels) - 8} more"
