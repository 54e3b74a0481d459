"""The control arm: the same student, images, views and number of updates, without anything that the teacher knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edgefm.data.sources import load_data
from edgefm.distill.control import make_control
from edgefm.distill.teacher import Teacher
from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.settings import load_recipe
from edgefm.spec.task import Task, make_task
from edgefm.train import loop

from .test_distill import recipe, run, terms

Make = Callable[..., Path]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """The view and the images of each step, and of nothing else."""
    seen: list[tuple[int, list[int]]] = []
    real = loop.take_step

    def watched(training: Any, optimizer: Any, batch: np.ndarray, pieces: Any, images: Any, state: Any) -> Any:
        seen.append((state.epochs % training.recipe.views, batch.tolist()))
        return real(training, optimizer, batch, pieces, images, state)

    monkeypatch.setattr(loop, "take_step", watched)
    return seen


def test_it_shows_the_same_images_in_the_same_order_and_views(
    tmp_path: Path, make_data: Make, teacher: Any, shown: list[tuple[int, list[int]]]
) -> None:
    data = make_data(train=10)
    run(teacher, data, tmp_path / "distilled", "distill.epochs=3")
    first = shown.copy()
    shown.clear()
    asked = teacher.asked
    out = run(teacher, data, tmp_path / "control", "distill.epochs=3", without_teacher=True)
    assert shown == first
    assert teacher.asked == asked
    assert terms(out) == {"loss_labels"}


def test_nothing_of_the_teacher_stays_but_its_preprocessing_and_its_classes(
    tmp_path: Path, make_data: Make, teacher: Any
) -> None:
    teacher.task = Task(kind="binary", labels=("dark", "bright"), thresholds=(0.9,), temperature=3.0)
    out = run(teacher, make_data(), tmp_path / "run", without_teacher=True)
    student = load_model(out)
    assert student.task == make_task("binary", ("dark", "bright"))
    assert student.preprocess.mean == (0.5,)
    assert student.licence == "unknown"
    assert [each.role for each in student.ancestors] == ["data"]
    assert teacher.asked == 0
    assert not (tmp_path / "teacher-cache").exists()
    found = json.loads((out / "evaluation.json").read_text())
    assert found["arm"] == "without teacher"
    assert "auc" in found["student"]
    assert not {"teacher", "between"} & set(found)
    used = load_recipe(out / "recipe.yaml").distill.losses
    assert {name: weight for name, weight in msgspec.to_builtins(used).items() if weight} == {"labels": 1}


def test_its_student_starts_from_the_same_weights(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    sets = ("distill.epochs=1", "distill.lr=1e-30", "distill.weight_decay=0")
    runs = [
        run(teacher, make_data(), tmp_path / name, *sets, without_teacher=name == "control")
        for name in ("distilled", "control")
    ]
    one, other = (load_model(out).module.state_dict() for out in runs)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-20)


def test_without_labels_there_is_nothing_to_learn(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    with pytest.raises(InputError, match="has no labels, and --without-teacher learns from them"):
        run(teacher, make_data(labels=None), tmp_path / "run", without_teacher=True)
    assert not list(tmp_path.glob("run*"))


def test_beside_a_teacher_without_classifier_it_learns_the_datas_own_classes(
    tmp_path: Path, make_data: Make, make_teacher: Any
) -> None:
    out = run(make_teacher(()), make_data(), tmp_path / "run", without_teacher=True)
    assert load_model(out).task.kind == "binary"
    assert "auc" in json.loads((out / "evaluation.json").read_text())["student"]


def test_a_run_of_one_arm_does_not_go_on_as_the_other(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    sets = ("distill.losses={logits: 0, features: 0, labels: 1}",)
    with pytest.raises(KeyboardInterrupt):
        run(teacher, data, tmp_path / "run", *sets, without_teacher=True, report=interrupt)
    with pytest.raises(InputError, match="without_teacher was True and is False"):
        run(teacher, data, tmp_path / "run", *sets, resume=True)


def test_where_few_have_labels_it_shows_those_again_and_again(
    tmp_path: Path, make_data: Make, teacher: Any, shown: list[tuple[int, list[int]]]
) -> None:
    data = make_data(train=14, labelled=4)
    lines: list[str] = []
    out = run(teacher, data, tmp_path / "distilled", report=lines.append)
    assert "10 of 26 images have no label, all of them in train" in lines
    assert terms(out) == {"loss_logits", "loss_features", "loss_labels"}
    first = shown.copy()
    shown.clear()
    run(teacher, data, tmp_path / "control", without_teacher=True)
    assert [(view, len(batch)) for view, batch in shown] == [(view, len(batch)) for view, batch in first]
    assert {image for _, batch in first for image in batch} == set(range(14))
    counts = np.bincount([image for _, batch in shown[: len(shown) // 2] for image in batch], minlength=14)
    assert counts[:4].sum() == 14
    assert set(counts[:4]) == {3, 4}


def test_several_labels_at_once_may_be_missing_too(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    teacher = make_teacher(("a", "b", "c"))
    teacher.task = make_task("multilabel", ("a", "b", "c"))
    data = make_data(train=12, labels=("a|b", "c", "|", "b"), labelled=5)
    for name in ("distilled", "control"):
        out = run(teacher, data, tmp_path / name, "distill.epochs=1", without_teacher=name == "control")
        line = json.loads((out / "metrics.jsonl").read_text())
        assert np.isfinite(line["loss_labels"])
        assert line["loss_labels"] > 0


def test_only_the_labelled_images_count_in_the_class_weights(make_data: Make, teacher: Any) -> None:
    data = load_data(make_data(train=12, labelled=3), labels=("dark", "bright"))
    asked = (Teacher(load_model(teacher), device=torch.device("cpu")),)
    plan = make_control(asked, data, recipe(), device=torch.device("cpu"))
    objective: Any = plan.objective()
    assert objective.class_weights.tolist() == pytest.approx([3 / 4, 3 / 2])
