"""Several teachers: the mean of their answers, the features of each, the licence of all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgefm.distill.losses import blend, feature_loss, logit_loss, spread
from edgefm.distill.projector import Projectors
from edgefm.distill.targets import TeacherTarget
from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.spec.recipe import LossRecipe
from edgefm.spec.task import Task, make_task
from edgefm.train.objective import Batch

from .conftest import GridTeacher, Open, Teacher, quiet
from .test_distill import run, terms
from .test_targets import MINE, ROWS

Make = Callable[..., Path]
TOKENS = "distill.losses.tokens=0.5"


class Bare(nn.Module):
    """A teacher without classifier, 5 wide, that says nothing of its licence."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Teacher(channels=3).preprocess
        self.asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += len(x)
        return x[:, 0, :5, 0]


def other() -> Teacher:
    """Another teacher of the same task."""
    made = Teacher(width=12)
    made.licence = "MIT"
    made.task = Task(kind="binary", labels=("dark", "bright"), thresholds=(0.7,))  # type: ignore[assignment]
    return made


def test_each_is_asked_once_and_all_are_in_the_lineage(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    second, third, lines = other(), Bare(), []  # type: ignore[var-annotated]
    out = run([teacher, second, third], make_data(train=7, val=4), tmp_path / "run", TOKENS, report=lines.append)
    assert [each.asked for each in (teacher, second, third)] == [1 + 2 * 7 + 4] * 3
    assert sum(line.startswith("the teacher is asked 18 times") for line in lines) == 3
    assert len(list((tmp_path / "teacher-cache").iterdir())) == 3
    student = load_model(out)
    assert student.task == make_task("binary", ("dark", "bright"))  # no threshold: it would be one teacher's
    assert student.preprocess.channels == 1
    assert student.licence == "CC-BY-NC-4.0 AND MIT AND unknown"
    assert [(each.role, each.licence) for each in student.ancestors][:3] == [
        ("teacher", "CC-BY-NC-4.0"),
        ("teacher", "MIT"),
        ("teacher", "unknown"),
    ]
    assert json.loads((out / "evaluation.json").read_text())["teacher"]["auc"] == 1
    assert terms(out) == {"loss_logits", "loss_features", "loss_labels"}


def test_the_terms_are_means_over_the_teachers(open_cache: Open, make_data: Make) -> None:
    data = make_data()
    modules = [GridTeacher(width=8), GridTeacher(width=12), GridTeacher(width=9)]
    with torch.no_grad():
        modules[1].scale.neg_()
    caches = [open_cache(module, data) for module in modules]
    projectors = [Projectors((6, width), (5, 3), seed) for seed, width in enumerate((8, 12, 9))]
    losses = LossRecipe(logits=1.0, features=1.0, tokens=1.0, labels=0.0)
    made = TeacherTarget(caches, losses, projectors, None, kind="binary", temperature=3.0, device=torch.device("cpu"))
    made.prepare(1, quiet)
    found = made(MINE, Batch(ROWS, 1, ROWS))
    said = [cache.of(ROWS) for cache in caches]
    assert MINE.logits is not None
    wanted = logit_loss(MINE.logits, blend([each["logits"] for each in said], "binary", 3.0), "binary", 3.0)
    torch.testing.assert_close(found["logits"], wanted)
    alone = [
        TeacherTarget([cache], losses, [project], None, kind="binary", temperature=3.0, device=torch.device("cpu"))
        for cache, project in zip(caches, projectors)
    ]
    for each in alone:
        each.prepare(1, quiet)
    single = [each(MINE, Batch(ROWS, 1, ROWS)) for each in alone]
    for name in ("features", "tokens"):
        torch.testing.assert_close(found[name], torch.stack([each[name] for each in single]).mean())
    project: Any = projectors[1].features
    scale = spread(caches[1].sample(quiet)["embedding"])
    torch.testing.assert_close(single[1]["features"], feature_loss(project(MINE.embedding), said[1]["embedding"], scale))


def test_a_grid_of_one_of_them_is_enough_for_tokens(tmp_path: Path, make_data: Make, grid_teacher: Any) -> None:
    out = run([other(), grid_teacher], make_data(), tmp_path / "run", TOKENS, "distill.epochs=1")
    assert "loss_tokens" in terms(out)


def test_teachers_without_classifier_are_learned_in_the_space_of_the_first(tmp_path: Path, make_data: Make) -> None:
    out = run([Bare(), Teacher((), width=8)], make_data(labels=None), tmp_path / "run", "distill.epochs=1")
    student = load_model(out)
    assert student.task.kind == "embedding"
    with torch.no_grad():
        assert student.module(torch.rand(1, 3, 160, 160)).embedding.shape == (1, 5)


def test_the_classes_come_from_whoever_has_some(tmp_path: Path, make_data: Make) -> None:
    out = run((Bare(), other()), make_data(), tmp_path / "run", "distill.epochs=1")
    student = load_model(out)
    assert student.task.labels == ("dark", "bright")
    assert student.task.thresholds == (0.7,)  # of the only one that has them
    assert student.preprocess.channels == 3


def test_teachers_of_other_tasks_are_refused(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    for labels in (("bright", "dark"), ("dark", "bright", "grey")):
        with pytest.raises(InputError, match=r"expected what Teacher answers, in that order: dark, bright \(binary\)"):
            run([teacher, Teacher(labels)], make_data(), tmp_path / "run")
    assert teacher.asked == 0


def test_a_teacher_that_nothing_is_learned_from_is_refused(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    with pytest.raises(InputError, match=r"nothing of the teacher Bare is learned: it has no classifier"):
        run([teacher, Bare()], make_data(), tmp_path / "run", "distill.losses.features=0")


@pytest.mark.parametrize("option", ["tap", "licence"])
def test_what_is_said_of_one_teacher_is_refused_for_several(tmp_path: Path, make_data: Make, teacher: Any, option: str) -> None:
    with pytest.raises(InputError, match=f"--{option} x is said of 2 teachers; expected one"):
        run([teacher, other()], make_data(), tmp_path / "run", **{option: "x"})


def test_a_run_with_more_teachers_is_another_run(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(teacher, data, tmp_path / "run", report=interrupt)
    with pytest.raises(InputError, match=r"teacher 2\.preprocess\.channels was None and is 1"):
        run([teacher, other()], data, tmp_path / "run", resume=True)


def test_the_control_arm_lets_all_of_them_go(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    second = other()
    out = run([teacher, second], make_data(), tmp_path / "run", without_teacher=True)
    assert teacher.asked == second.asked == 0
    assert load_model(out).licence == "unknown"


def test_a_dry_run_counts_the_passes_of_all(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    lines: list[str] = []
    run([teacher, other()], make_data(), tmp_path / "run", dry_run=True, report=lines.append)
    assert any("52 teacher passes" in line for line in lines)
    assert any(line.count("teacher ") == 2 and "images/s" in line for line in lines)
