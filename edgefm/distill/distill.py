"""The verb: load the teacher, read the data, build the student, train it by the one loop, write a run directory.

Not the loop (`train/loop.py`), not the losses (`losses.py`), not int8 (`quantize/`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from ..data.dataset import Dataset
from ..data.images import check_images
from ..data.sources import load_data
from ..errors import InputError
from ..models import LoadedModel, Outputs, build_student, load_model, save_run
from ..models.encoder import TimmEncoder
from ..partial import check_output
from ..spec.manifest import Ancestor
from ..spec.recipe import Recipe
from ..spec.task import Task, make_task
from ..train.checkpoint import STATE, State
from ..train.images import Images
from ..train.loop import Training, Validate, fit
from ..train.objective import LabelObjective, Objective
from ..train.precision import choose_precision, to_device, usable_device
from ..train.predict import all_outputs, predict
from ..train.processes import Processes, join
from ..train.progress import Report, no_bar, silent
from ..train.validation import validate_labels
from .estimate import estimate
from .evaluate import evaluate, validate_against_teacher
from .targets import EmbeddingTarget, LogitTarget, TeacherTable


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs, loaded and checked against each other."""

    teacher: LoadedModel
    student: LoadedModel
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


def distill(
    teacher: Any,
    student: str | None,
    data: str | Path,
    out: Path,
    *,
    recipe: Recipe,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    device: str = "cpu",
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    report: Callable[[str], None] = silent,
    bar: Callable[[float, float], None] = no_bar,
) -> Path:
    """Distil `teacher` into a small student.

    What the student answers: the teacher's task where the teacher has logits, with or without labels in the data (its
    thresholds and temperature go with it, since the student learns its logits). Where it has none, the student learns its
    embedding, its last layer being the projection into the teacher's space, and its task is `embedding`; labels then only
    serve to measure kNN accuracy.

    Args:
        teacher: any MODEL. student: a preset or timm name; None takes the recipe's.
        out: the run directory to write.
        resume: go on with `out`.partial after its last finished epoch; refused if recipe, teacher or data differ.
        dry_run: report what would be done, with minutes, disk and memory; write nothing.
        tap, licence, trust_remote_code: see `models.load_model`.
        report: takes a line at a time. bar: takes the share done, 0 to 1, and the seconds left.

    Returns:
        `out`: the run directory with `evaluation.json` (teacher and student on `val`, fp32) beside what `save_run` writes.

    Raises:
        InputError: anything about model, data or output that cannot be used; a loss that is not finite.
    """
    out = Path(out)
    check_output(out, force)
    recipe = msgspec.structs.replace(recipe, student=student or recipe.student)
    place = usable_device(device)
    processes = join(place)
    told = Report(report, bar) if processes.main else Report()
    loaded = load_model(teacher, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    dataset = load_data(data, recipe.data, seed=recipe.seed, labels=loaded.task.labels or None)
    if not dry_run:
        dataset = check_images(dataset)
    for note in (*dataset.notes, *(f"left out: {problem}" for problem in dataset.skipped)):
        told.line(note)
    plan = _plan(loaded, dataset, recipe, place, told)
    if dry_run:
        for line in estimate(plan.teacher, plan.student, plan.images, plan.train, plan.val, recipe.distill, place):
            told.line(line)
        return out
    with processes.run_folder(out, force=force, resume=resume) as folder:
        _run(plan, folder, processes, tap=tap, resume=resume, report=told)
    if processes.main:
        shutil.rmtree(out / STATE)
    return out


def _plan(teacher: LoadedModel, dataset: Dataset, recipe: Recipe, device: torch.device, report: Report) -> Plan:
    window = recipe.preprocess.window16
    if window is not None:
        teacher = replace(teacher, preprocess=msgspec.structs.replace(teacher.preprocess, window16=window))
    teacher.module.eval()
    if teacher.kind == "torch":
        to_device(teacher.module, device)
    task = teacher.task
    if dataset.labels is not None and task.kind == "embedding":
        report.line("the teacher has no classifier: the student learns its embedding, and the labels only measure it")
    elif dataset.labels is not None and (dataset.task.kind, dataset.task.labels) != (task.kind, task.labels):
        raise InputError(
            f"{dataset.name} is labelled {', '.join(dataset.task.labels)} ({dataset.task.kind})",
            expected=f"the labels of the teacher {teacher.name}: {_some(task.labels)} ({task.kind})",
            do="rename the labels, or take a teacher of this task",
        )
    images, train = Images(dataset), dataset.of("train")
    student = _student(teacher, images, train, recipe, device)
    val = np.flatnonzero(dataset.splits == "val")
    return Plan(teacher=teacher, student=student, images=images, train=train, val=val, recipe=recipe, device=device)


def _student(teacher: LoadedModel, images: Images, train: np.ndarray, recipe: Recipe, device: torch.device) -> LoadedModel:
    """The student, before training. Of a teacher without logits it learns the embedding: `pooling` "projected"."""
    task = teacher.task
    if task.kind == "embedding":
        width = _outputs(teacher, images, train[:1], device).embedding.shape[1]
        task = make_task("multilabel", tuple(map(str, range(width))))
    student = build_student(
        recipe.student,
        task=task,
        preprocess=teacher.preprocess,
        seed=recipe.seed,
        pretrained=recipe.distill.pretrained,
    )
    assert isinstance(student.module, TimmEncoder)
    if teacher.task.kind == "embedding":
        student.module.pooling = "projected"
    ancestors = student.ancestors
    if recipe.distill.pretrained:
        ancestors += (Ancestor(role="student", name=student.name, licence=student.licence, sha256=student.sha256),)
    # What it learns is the teacher's, and so is the licence; that of the weights it starts from stays in the lineage.
    return replace(student, task=teacher.task, licence=teacher.licence, ancestors=ancestors)


def _run(plan: Plan, folder: Path, processes: Processes, *, tap: str | None, resume: bool, report: Report) -> None:
    data = Ancestor(role="data", name=plan.dataset.name, sha256=plan.dataset.sha256())
    teacher, student = plan.teacher, plan.student
    identity = {
        "recipe": {key: value for key, value in msgspec.to_builtins(plan.recipe).items() if key != "quantize"},
        "teacher": teacher.sha256,
        "tap": tap,
        "student": student.sha256,
        "data": data.sha256,
    }
    asked = _outputs(teacher, plan.images, plan.val, plan.device) if len(plan.val) else None
    training = Training(
        module=student.module,
        images=plan.images,
        train=plan.train,
        spec=student.preprocess,
        objective=_objective(plan, folder, identity),
        validate=_validate(plan, asked),
        recipe=plan.recipe.distill,
        seed=plan.recipe.seed,
        device=plan.device,
        processes=processes,
    )
    state = fit(training, folder, identity=identity, resume=resume, report=report)
    if not processes.main:
        return
    _evaluate(plan, asked, state, folder, report)
    origin = Ancestor(role="teacher", name=teacher.name, licence=teacher.licence, sha256=teacher.sha256)
    student.module.cpu()
    save_run(folder, student, plan.recipe, (*student.ancestors, origin, *teacher.ancestors, data))


def _objective(plan: Plan, folder: Path, identity: dict[str, Any]) -> Objective:
    settings, task = plan.recipe.distill, plan.task
    labels, losses = plan.dataset.labels, settings.losses
    device = _device_of(plan.teacher, plan.device)
    table = TeacherTable(
        teacher=plan.teacher,
        answer="embedding" if task.kind == "embedding" else "logits",
        images=plan.images,
        train=plan.train,
        folder=folder,
        identity=identity,
        seed=plan.recipe.seed,
        augment=settings.augment,
        device=plan.device,
        teacher_device=device,
        precision=choose_precision(plan.teacher.module, device, training=False),
    )
    if task.kind == "embedding":
        return EmbeddingTarget(table)
    if not losses.logits and (labels is None or not losses.labels):
        raise InputError("all losses are switched off", do="give distill.losses.logits or distill.losses.labels a weight")
    beside = None
    if labels is not None and losses.labels:
        beside = LabelObjective(labels, plan.train, task.kind, len(task.labels), plan.device, losses.labels)
    return LogitTarget(table if losses.logits else None, beside, task.kind, losses.logits, settings.temperature)


def _validate(plan: Plan, teacher: Outputs | None) -> Validate:
    labels, spec = plan.dataset.labels, plan.student.preprocess
    if teacher is None:
        return lambda module, precision: None
    if labels is None or plan.task.kind == "embedding":
        temperature = plan.recipe.distill.temperature
        return validate_against_teacher(plan.images, plan.val, teacher, spec, plan.task, temperature, plan.device)
    return validate_labels(plan.images, plan.val, labels, spec, plan.task, plan.device)


def _evaluate(plan: Plan, teacher: Outputs | None, state: State, folder: Path, report: Report) -> None:
    found: dict[str, Any] = {"best_epoch": state.best_epoch, "precision": state.precision, "images": len(plan.val)}
    if teacher is not None:
        labels = plan.dataset.labels
        student = _outputs(plan.student, plan.images, plan.val, plan.device)
        found |= evaluate(student, teacher, None if labels is None else labels[plan.val], plan.task)
        for who in ("teacher", "student", "between"):
            if found.get(who):
                words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in found[who].items())
                report.line(f"{who} on {len(plan.val)} val images: {words}")
    (folder / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n")


def _outputs(model: LoadedModel, images: Images, indexes: np.ndarray, device: torch.device) -> Outputs:
    """The answers to some images, in fp32."""
    place = _device_of(model, device)
    return all_outputs(predict(model.module, images, indexes, model.preprocess, device=place, precision="fp32"))


def _device_of(model: LoadedModel, device: torch.device) -> torch.device:
    """Frozen graphs run in their own engine, on the CPU."""
    return device if model.kind == "torch" else torch.device("cpu")


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) if len(labels) <= 8 else f"{', '.join(labels[:8])} and {len(labels) - 8} more"
