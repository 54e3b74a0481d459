"""Which losses of a recipe can apply to these teachers, this student and these labels. Not their formulas: `losses.py`."""

from __future__ import annotations

import msgspec

from ..data.dataset import Dataset
from ..errors import InputError
from ..spec.recipe import LossRecipe
from ..spec.task import Task
from ..train.progress import Report


def applicable(
    losses: LossRecipe,
    dataset: Dataset,
    task: Task,
    *,
    known: bool,
    grids: tuple[bool, bool],
    attentive: tuple[bool, bool],
    report: Report,
) -> LossRecipe:
    """The weights, 0 for a loss that cannot apply, with a sentence where somebody could wonder.

    Args:
        task: of the student. known: whether the teachers know its classes.
        grids: whether a teacher, and the student, has a grid of features. attentive: whether they show attention over patches.

    Raises:
        InputError: nothing is left that teaches the student its answers.
    """
    off: dict[str, str] = {}
    if task.kind == "embedding":
        off |= {"logits": "", "labels": ""}
    elif dataset.labels is None:
        off["labels"] = f"{dataset.name} has no labels: the student learns from the teacher alone"
    elif not labels_differ(dataset):
        off["labels"] = "all images of train that have labels have the same: the loss on labels is switched off"
    if not known:
        off["logits"] = "distill.task=data: the teacher's classes are not learned, only its features beside the labels"
    if not all(grids):
        who = "teacher" if not grids[0] else "student"
        off["tokens"] = f"the {who} has no grid of features: the loss on tokens is switched off"
    if not all(attentive):
        who = "teacher" if not attentive[0] else "student"
        reason = f"the {who} shows no attention over its patches, as vision transformers of timm and transformers do"
        off["attention"] = f"{reason}: the loss on attention is switched off"
        off["relation"] = f"{reason}: the loss on relations is switched off"
    for name, sentence in off.items():
        if getattr(losses, name) and sentence:
            report.line(sentence)
    left = msgspec.structs.replace(losses, **dict.fromkeys(off, 0.0))
    needed = [name for name in (("features",) if task.kind == "embedding" else ("logits", "labels")) if name not in off]
    if not any(getattr(left, name) for name in needed):
        what = "embedding" if task.kind == "embedding" else "classes"
        keys = " or ".join(f"distill.losses.{name}" for name in needed)
        raise InputError(f"no loss teaches the student its {what}", do=f"give {keys} a weight")
    if not known and not asks(left):
        raise InputError(
            "with distill.task=data and no weight for features, tokens or attention nothing of the teacher is learned",
            do="give distill.losses.features a weight, or say --without-teacher",
        )
    return left


def asks(losses: LossRecipe) -> bool:
    """Whether the teacher's answers to training images are needed."""
    return bool(losses.logits or losses.features or losses.tokens or compares(losses))


def compares(losses: LossRecipe) -> bool:
    """Whether attention layers are compared."""
    return bool(losses.attention or losses.relation)


def check_teaching(dataset: Dataset, who: str) -> None:
    """Raise `InputError` where labels alone cannot teach a student its answers. `who`: the option that makes them do so."""
    if dataset.labels is None:
        raise InputError(f"{dataset.name} has no labels, and {who} learns from them", do="add labels, or leave it out")
    if not labels_differ(dataset):
        raise InputError(
            f"all images of train in {dataset.name} that have labels have the same", expected="two classes to tell apart"
        )


def labels_differ(dataset: Dataset) -> bool:
    """Whether the known labels of train differ, so that something can be learned from them."""
    assert dataset.labels is not None
    labels = dataset.labels[dataset.known & (dataset.splits == "train")]
    return len(labels) > 0 and bool((labels != labels[0]).any())
