"""The verb: open the teacher, read the data, build the student, train it by the one loop, write a run directory.

Not the loop (`train/loop.py`), not the losses (`losses.py`), not int8 (`quantize/`).

    teacher ──asked once per view──▶ cache on disk ──┐
    labels, where there are some ────────────────────┴──▶ losses ──▶ student
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from ..data.images import check_images
from ..data.sources import load_data
from ..errors import InputError
from ..models import Outputs, save_run
from ..partial import check_output_folder
from ..spec.manifest import Ancestor
from ..spec.recipe import Recipe
from ..train.checkpoint import STATE, State, check_resumable
from ..train.loop import Training, Validate, fit
from ..train.precision import usable_device
from ..train.predict import all_outputs, predict
from ..train.processes import Processes, join
from ..train.progress import Report, no_bar, silent
from ..train.validation import validate_labels
from .control import make_control
from .estimate import estimate
from .evaluate import evaluate, validate_against_teacher
from .known import open_teacher
from .losses import blend
from .plan import Plan, asked_task, common_task, make_plan
from .teacher import Teacher

CACHE = "teacher-cache"  # beside OUT


def distill(
    teacher: Any,
    student: str | None,
    data: str | Path,
    out: Path,
    *,
    recipe: Recipe,
    cache: Path | None = None,
    without_teacher: bool = False,
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
    """Distil `teacher`, or several, into a small student.

    What the student answers: the teacher's task where the teacher has logits, with or without labels in the data (its
    thresholds and temperature go with it where the student learns its logits). Where it has none, the student learns its
    embedding, its last layer being the projection into the teacher's space, and its task is `embedding`; labels then only
    serve to measure kNN accuracy. With `distill.task` "data" it answers the classes of the data, learned from labels beside the
    teacher's features, whatever the teacher answers. Images of train may lack labels: the teacher's answers to them are learned
    all the same.

    Several teachers of one task: the mean of their softened answers, and the features of each. Those without a classifier add
    their features only. The student is prepared as the first one is, and inherits the licence of all.

    Args:
        teacher: any MODEL, or a list or tuple of them. student: a preset or timm name; None takes the recipe's.
        out: the run directory to write.
        cache: the folder that the teacher's answers are kept in, for other runs too; None for `teacher-cache` beside `out`.
            With all answers in it, a teacher on disk is not loaded (`known.py`).
        without_teacher: the control arm, see `control.make_control`.
        resume: go on with `out`.partial after its last checkpoint; refused if recipe, teacher or data differ.
        dry_run: report what would be done, with minutes, disk and memory; write nothing.
        tap, licence, trust_remote_code: see `models.load_model`; the first two of a single teacher only.
        report: takes a line at a time. bar: takes the share done, 0 to 1, and the seconds left.

    Returns:
        `out`: the run directory with `evaluation.json` (teacher and student on `val`, fp32) beside what `save_run` writes.

    Raises:
        InputError: anything about model, data or output that cannot be used; a loss that is not finite.
    """
    out = Path(out)
    check_output_folder(out, force)
    recipe = msgspec.structs.replace(recipe, student=student or recipe.student)
    place = usable_device(device)
    processes = join(place)
    told = Report(report, bar) if processes.main else Report()
    answers = cache or out.absolute().parent / CACHE
    teachers = _open(teacher, answers, place, recipe, tap=tap, licence=licence, trust_remote_code=trust_remote_code)
    known = recipe.distill.task == "teacher"
    dataset = load_data(data, recipe.data, labels=(common_task(teachers).labels or None) if known else None)
    if not dry_run:
        dataset = check_images(dataset)
    for note in (*dataset.notes, *(f"left out: {problem}" for problem in dataset.skipped)):
        told.line(note)
    if without_teacher:
        plan = make_control(teachers, dataset, recipe, device=place)
    else:
        plan = make_plan(teachers, dataset, recipe, device=place, cache=answers, report=told)
    for each in plan.caches:
        each.check()
    if dry_run:
        for line in estimate(plan):
            told.line(line)
        return out
    with processes.run_folder(out, force=force, resume=resume) as folder:
        _run(plan, folder, processes, resume=resume, report=told)
    if processes.main:
        shutil.rmtree(out / STATE)
    return out


def _open(
    sources: Any,
    cache: Path,
    device: torch.device,
    recipe: Recipe,
    *,
    tap: str | None,
    licence: str | None,
    trust_remote_code: bool,
) -> tuple[Teacher, ...]:
    several = sources if isinstance(sources, (list, tuple)) else [sources]
    for option, value in (("--tap", tap), ("--licence", licence)):
        if value is not None and len(several) > 1:
            raise InputError(f"{option} {value} is said of {len(several)} teachers", expected="one", do="leave it out")
    window = recipe.preprocess.window16
    return tuple(
        open_teacher(
            source, cache, device=device, tap=tap, licence=licence, trust_remote_code=trust_remote_code, window16=window
        )
        for source in several
    )


def _run(plan: Plan, folder: Path, processes: Processes, *, resume: bool, report: Report) -> None:
    data = Ancestor(role="data", name=plan.dataset.name, sha256=plan.dataset.sha256())
    student = plan.student
    identity = {
        "recipe": {key: value for key, value in msgspec.to_builtins(plan.recipe).items() if key not in ("adapt", "quantize")},
        **plan.teachers[0].identity,
        **{f"teacher {number}": each.identity for number, each in enumerate(plan.teachers[1:], 2)},
        "without_teacher": not plan.caches,
        "student": student.sha256,
        "data": data.sha256,
    }
    if resume:
        check_resumable(folder, identity)
    for cache in plan.caches:
        cache.begin()
    with processes.main_first():
        said = _said([cache.val_outputs(lambda done, count: None) for cache in plan.caches], plan)
    training = Training(
        module=plan.learner,
        images=plan.images,
        train=plan.train,
        spec=student.preprocess,
        objective=plan.objective(),
        validate=_validate(plan, said),
        recipe=plan.recipe.distill,
        seed=plan.recipe.seed,
        device=plan.device,
        beside=plan.beside,
        processes=processes,
    )
    state = fit(training, folder, identity=identity, resume=resume, report=report)
    if not processes.main:
        return
    _evaluate(plan, said, state, folder, report)
    student.module.cpu()
    save_run(folder, student, plan.recipe, _lineage(plan, data))


def _said(answers: list[Outputs | None], plan: Plan) -> Outputs | None:
    """What the teachers answer together about the images to validate on."""
    found = [each for each in answers if each is not None]
    if not found:
        return None
    logits = [each.logits for each in found if each.logits is not None]
    return Outputs(blend(logits, plan.task.kind, 1.0) if logits else None, found[0].embedding)


def _lineage(plan: Plan, data: Ancestor) -> tuple[Ancestor, ...]:
    found = list(plan.student.ancestors)
    for about in (teacher.about for teacher in plan.teachers if plan.caches):
        found.append(Ancestor(role="teacher", name=about.name, licence=about.licence, sha256=about.sha256))
        found.extend(each for each in about.ancestors if each not in found)
    return (*found, data)


def _validate(plan: Plan, teacher: Outputs | None) -> Validate:
    labels, spec = plan.dataset.labels, plan.student.preprocess
    if not len(plan.val):
        return lambda module, precision: None
    if labels is not None and plan.task.kind != "embedding":
        validate = validate_labels(plan.images, plan.val, labels, spec, plan.task, plan.device)
    else:
        assert teacher is not None
        temperature = plan.recipe.distill.temperature
        validate = validate_against_teacher(plan.images, plan.val, teacher, spec, plan.task, temperature, plan.device)
    return lambda module, precision: validate(plan.student.module, precision)  # the learner would say more than is asked


def _evaluate(plan: Plan, teacher: Outputs | None, state: State, folder: Path, report: Report) -> None:
    arm = "distilled" if plan.caches else "without teacher"
    found: dict[str, Any] = {"arm": arm, "best_epoch": state.best_epoch, "precision": state.precision, "images": len(plan.val)}
    if len(plan.val):
        module, spec = plan.student.module, plan.student.preprocess
        mine = all_outputs(predict(module, plan.images, plan.val, spec, device=plan.device, precision="fp32"))
        tasks = {"student": plan.task, "teacher": asked_task(plan.teachers, plan.dataset, plan.recipe.distill.task)}
        answers = {"student": mine} | ({} if teacher is None else {"teacher": teacher})
        found |= evaluate(answers, plan.val_labels, tasks)
        for who in ("teacher", "student", "between"):
            if found.get(who):
                words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in found[who].items())
                report.line(f"{who} on {len(plan.val)} val images: {words}")
    (folder / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n")
