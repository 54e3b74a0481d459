"""Whose classes the student answers: its teacher's, or with `distill.task=data` those of the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.spec.task import Task, make_task

from .test_distill import run, terms

Make = Callable[..., Path]
OF_DATA = "distill.task=data"


def test_labels_are_learned_beside_the_features_of_a_teacher_without_classifier(
    tmp_path: Path, make_data: Make, make_teacher: Any
) -> None:
    lines: list[str] = []
    data = make_data(train=16)
    out = run(make_teacher((), width=8), data, tmp_path / "run", OF_DATA, "distill.epochs=4", report=lines.append)
    assert terms(out) == {"loss_features", "loss_labels"}
    student = load_model(out)
    assert student.task == make_task("binary", ("bright", "dark"))
    found = json.loads((out / "evaluation.json").read_text())
    assert "auc" in found["student"]
    assert "teacher" not in found
    assert "between" not in found
    assert not any("switched off" in line or "only measure" in line for line in lines)
    assert "distill.task=data: the teacher's classes are not learned, only its features beside the labels" in lines
    assert any("the teacher is asked 32 times" in line for line in lines)  # two views of 16 images, and none of val


def test_the_labels_may_be_others_than_the_teacher_s(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    data = make_data(labels=("dim", "dark", "bright"))
    out = run(make_teacher(("cat", "dog")), data, tmp_path / "run", OF_DATA, "distill.epochs=1")
    assert load_model(out).task.labels == ("bright", "dark", "dim")
    assert terms(out) == {"loss_features", "loss_labels"}
    assert "teacher" not in json.loads((out / "evaluation.json").read_text())


def test_the_teachers_need_not_agree_on_classes(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    teachers = [make_teacher(("cat", "dog")), make_teacher(("a", "b", "c"), width=5)]
    out = run(teachers, make_data(), tmp_path / "run", OF_DATA, "distill.epochs=1")
    assert load_model(out).task.labels == ("bright", "dark")


def test_nothing_of_the_teacher_s_thresholds_goes_along(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    teacher.task = Task(kind="binary", labels=("dark", "bright"), thresholds=(0.3,))
    out = run(teacher, make_data(), tmp_path / "run", OF_DATA, "distill.epochs=1")
    assert load_model(out).task == make_task("binary", ("bright", "dark"))


def test_without_labels_it_is_refused(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    with pytest.raises(InputError, match=r"has no labels, and distill\.task=data learns from them"):
        run(teacher, make_data(labels=None), tmp_path / "run", OF_DATA)
    assert not list(tmp_path.glob("run*"))


def test_without_a_weight_for_features_nothing_of_the_teacher_is_left(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    with pytest.raises(InputError, match=r"nothing of the teacher is learned\. Give distill\.losses\.features a weight"):
        run(teacher, make_data(), tmp_path / "run", OF_DATA, "distill.losses.features=0")


def test_without_a_weight_for_labels_it_is_refused(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    with pytest.raises(InputError, match=r"its classes\. Give distill\.losses\.labels a weight"):
        run(teacher, make_data(), tmp_path / "run", OF_DATA, "distill.losses.labels=0")


def test_a_teacher_of_other_classes_is_told_of_this(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    with pytest.raises(InputError, match=r"distill\.task=data"):
        run(make_teacher(("cat", "dog", "cow")), make_data(labels=("dark", "bright")), tmp_path / "run")


def test_the_control_arm_of_it_learns_the_same_classes(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    out = run(make_teacher(("cat", "dog")), make_data(), tmp_path / "run", OF_DATA, "distill.epochs=1", without_teacher=True)
    assert load_model(out).task.labels == ("bright", "dark")
    assert terms(out) == {"loss_labels"}
