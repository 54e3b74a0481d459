"""The verb: what the student answers, what stops it, and that a killed run ends as an uninterrupted one."""

from __future__ import annotations

import dataclasses
import importlib
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edgefm.distill import distill
from edgefm.errors import ImageError, InputError
from edgefm.models import LoadedModel, build_student, load_model
from edgefm.settings import load_recipe
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import Task, make_task

STUDENT = "test_vit"
Make = Callable[..., Path]


def recipe(*sets: str) -> Recipe:
    return load_recipe(None, ["distill.epochs=2", "distill.views=2", "distill.batch=6", *sets])


def run(teacher: Any, data: Path, out: Path, *sets: str, **options: Any) -> Path:
    return distill(teacher, STUDENT, data, out, recipe=recipe(*sets), **options)


def terms(out: Path) -> set[str]:
    """The terms of the loss in the first epoch."""
    return {name for name in json.loads((out / "metrics.jsonl").read_text().splitlines()[0]) if name.startswith("loss_")}


def test_a_run_directory_holds_all_that_other_verbs_need(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    lines: list[str] = []
    out = run(teacher, make_data(), tmp_path / "run", report=lines.append)
    student = load_model(out)
    assert (student.task.kind, student.task.labels) == ("binary", ("dark", "bright"))
    assert (student.preprocess.channels, student.preprocess.size, student.preprocess.mean) == (1, 160, (0.5,))
    assert student.licence == "CC-BY-NC-4.0"
    assert [(each.role, each.licence) for each in student.ancestors] == [("teacher", "CC-BY-NC-4.0"), ("data", "unknown")]
    assert all(each.sha256 for each in student.ancestors)
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json",
        "edgefm.json",
        "evaluation.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.yaml",
    ]
    found = json.loads((out / "evaluation.json").read_text())
    assert found["teacher"]["auc"] == 1
    assert found["arm"] == "distilled"
    assert set(found["student"]) >= {"auc", "sensitivity", "specificity", "balanced_accuracy"}
    assert 0 <= found["between"]["flips"] <= 1
    assert terms(out) == {"loss_logits", "loss_features", "loss_labels"}
    assert load_recipe(out / "recipe.yaml") == msgspec.structs.replace(recipe(), student=STUDENT)
    assert any(line.startswith("student on") for line in lines)


def test_weights_that_the_student_starts_from_stay_in_its_lineage(
    tmp_path: Path, make_data: Make, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = importlib.import_module("edgefm.distill.student")

    def downloaded(name: str, **options: Any) -> LoadedModel:
        return dataclasses.replace(build_student(name, **options | {"pretrained": False}), licence="GPL-3.0")

    monkeypatch.setattr(room, "build_student", downloaded)
    out = run(teacher, make_data(), tmp_path / "run", "distill.pretrained=true", "distill.epochs=1")
    lineage = [(each.role, each.name, each.licence) for each in load_model(out).ancestors]
    assert lineage[:2] == [("student", STUDENT, "GPL-3.0"), ("teacher", "Teacher", "CC-BY-NC-4.0")]


def test_the_teacher_sees_each_view_of_an_image_once(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    run(teacher, make_data(train=7, val=4), tmp_path / "run", "distill.epochs=5", "distill.views=2")
    one, val = 1, 4  # one for what its answers look like
    assert teacher.asked == one + 2 * 7 + val


def test_only_the_views_that_are_shown_are_asked_for(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    run(teacher, make_data(train=7, val=4), tmp_path / "run", "distill.epochs=1", "distill.views=8")
    assert teacher.asked == 1 + 7 + 4


def test_once_every_view_was_asked_there_is_no_teacher_in_memory(
    tmp_path: Path, make_data: Make, make_teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, teachers, there = importlib.import_module("edgefm.distill.known"), [], []

    def loaded(source: str, **options: Any) -> LoadedModel:
        module = make_teacher()
        teachers.append(weakref.ref(module))
        return load_model(module)

    def report(line: str) -> None:
        if line.startswith("epoch"):
            there.append(teachers[-1]() is not None)

    monkeypatch.setattr(room, "load_model", loaded)
    data = make_data()
    run("somewhere", data, tmp_path / "run", "distill.epochs=4", "distill.views=2", report=report)
    assert there == [True, False, False, False]
    there.clear()
    run("somewhere", data, tmp_path / "again", "distill.epochs=2", "distill.losses.features=2", report=report)
    assert there == [False, False]


def test_another_student_learns_from_the_answers_that_are_there(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data, cache = make_data(), tmp_path / "kept" / "answers"
    run(teacher, data, tmp_path / "run", cache=cache)
    asked = teacher.asked
    lines: list[str] = []
    sets = load_recipe(None, ["distill.epochs=2", "distill.views=2", "distill.temperature=5", "distill.losses.labels=0"])
    distill(teacher, "test_efficientnet", data, tmp_path / "other", recipe=sets, cache=cache, report=lines.append)
    assert teacher.asked == asked
    assert f"the teacher is not asked: its 26 answers are in {cache}" in lines
    assert not (tmp_path / "teacher-cache").exists()


def test_labels_in_another_order_are_mapped_by_name(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    out = run(make_teacher(("bright", "dark")), make_data(), tmp_path / "run")
    found = json.loads((out / "evaluation.json").read_text())
    assert load_model(out).task.labels == ("bright", "dark")
    assert found["teacher"]["auc"] == 0  # this teacher calls the brighter ones dark: the order was not swapped twice


@pytest.mark.parametrize("labels", [("a", "b"), ("dark", "bright", "grey", "a", "b", "c", "d", "e", "f", "g")])
def test_labels_that_the_teacher_does_not_know_are_refused(
    tmp_path: Path, make_data: Make, make_teacher: Any, labels: tuple[str, ...]
) -> None:
    data = make_data(labels=("low", "high"))
    with pytest.raises(InputError, match=r"labelled high, low|labelled low, high") as refusal:
        run(make_teacher(labels), data, tmp_path / "run")
    assert labels[0] in refusal.value.expected
    assert not list(tmp_path.glob("run*"))


def test_labels_can_be_left_out_and_the_task_stays(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    out = run(teacher, make_data(labels=None), tmp_path / "run")
    assert load_model(out).task.labels == ("dark", "bright")
    found = json.loads((out / "evaluation.json").read_text())
    assert set(found["between"]) == {"flips"}
    assert "teacher" not in found
    assert "loss_labels" not in (out / "metrics.jsonl").read_text()


@pytest.mark.parametrize("labels", [None, ("dark", "bright")], ids=["without labels", "with labels"])
def test_a_teacher_without_classifier_gives_a_student_in_its_space(
    tmp_path: Path, make_data: Make, make_teacher: Any, labels: tuple[str, str] | None
) -> None:
    out = run(make_teacher((), width=8), make_data(train=16, labels=labels), tmp_path / "run", "distill.epochs=6")
    student = load_model(out)
    assert student.task.kind == "embedding"
    with torch.no_grad():
        outputs = student.module(torch.rand(3, 1, 160, 160))
    assert outputs.logits is None
    assert outputs.embedding.shape == (3, 8)
    found = json.loads((out / "evaluation.json").read_text())
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    assert ("knn_accuracy" in found.get("student", {})) == (labels is not None)
    assert -1 <= found["between"]["mean_cosine"] <= 1


def test_several_labels_at_once_are_distilled_one_by_one(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    teacher = make_teacher(("a", "b", "c"))
    teacher.task = make_task("multilabel", ("a", "b", "c"))
    out = run(teacher, make_data(labels=("a|b", "c", "|", "b")), tmp_path / "run", "distill.epochs=1")
    assert load_model(out).task == teacher.task
    assert "auc" in json.loads((out / "evaluation.json").read_text())["student"]


def test_a_frozen_graph_teaches_in_its_own_engine(tmp_path: Path, make_data: Make) -> None:
    graph = tmp_path / "teacher.onnx"
    write_onnx_teacher(graph)
    (tmp_path / "labels.json").write_text('["dark", "bright"]')
    prepare = Preprocess(channels=1, size=32, resize_to=32, mean=(0.5,), std=(0.25,))
    (tmp_path / "preprocess.json").write_bytes(msgspec.json.encode(prepare))
    out = run(graph, make_data(), tmp_path / "run", licence="MIT")
    assert json.loads((out / "evaluation.json").read_text())["teacher"]["auc"] == 1
    assert load_model(out).licence == "MIT"


def test_losses_that_leave_the_answer_untaught_are_refused(tmp_path: Path, make_data: Make, make_teacher: Any) -> None:
    data = make_data(labels=None)
    with pytest.raises(InputError, match=r"no loss teaches the student its classes\. Give distill\.losses\.logits a weight"):
        run(make_teacher(), data, tmp_path / "run", "distill.losses.logits=0")
    with pytest.raises(InputError, match=r"its embedding\. Give distill\.losses\.features a weight"):
        run(make_teacher(()), data, tmp_path / "run", "distill.losses.features=0")
    assert not list(tmp_path.glob("run*"))


def test_with_labels_alone_the_teacher_is_only_measured(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    sets = ("distill.losses.logits=0", "distill.losses.features=0")
    out = run(teacher, make_data(train=7, val=4), tmp_path / "run", *sets)
    assert teacher.asked == 1 + 4
    assert terms(out) == {"loss_labels"}


@pytest.mark.parametrize("logits", [1, 0])
def test_thresholds_and_temperature_come_along_only_where_logits_are_learned(
    tmp_path: Path, make_data: Make, teacher: Any, logits: int
) -> None:
    teacher.task = Task(kind="binary", labels=("dark", "bright"), thresholds=(0.9,), temperature=3.0)
    out = run(teacher, make_data(), tmp_path / "run", f"distill.losses.logits={logits}", "distill.epochs=1")
    assert load_model(out).task == (teacher.task if logits else make_task("binary", ("dark", "bright")))


def test_the_teacher_is_measured_at_its_own_threshold(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    teacher.task = Task(kind="binary", labels=("dark", "bright"), thresholds=(0.999999,))
    out = run(teacher, make_data(), tmp_path / "run", "distill.losses.logits=0", "distill.epochs=1")
    assert json.loads((out / "evaluation.json").read_text())["teacher"]["sensitivity"] == 0


def test_a_window_in_the_recipe_is_the_students_too(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    out = run(teacher, make_data(), tmp_path / "run", "preprocess.window16=[0, 4095]", "distill.epochs=1")
    assert load_model(out).preprocess.window16 == (0, 4095)


def test_a_broken_image_is_named_before_anything_is_trained(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()
    (data.parent / "3.png").write_bytes((data.parent / "3.png").read_bytes()[:100])
    with pytest.raises(ImageError, match=r"row 5"):
        run(teacher, data, tmp_path / "run")
    assert teacher.asked == 0
    assert not list(tmp_path.glob("run*"))


def test_a_broken_image_is_left_out_when_the_recipe_says_so(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()
    (data.parent / "3.png").write_bytes(b"nothing")
    lines: list[str] = []
    run(teacher, data, tmp_path / "run", "data.broken=skip", "distill.epochs=1", report=lines.append)
    assert any(line.startswith("left out: row 5") for line in lines)


def test_a_teacher_that_answers_nan_is_named_with_the_image(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    with torch.no_grad():
        teacher.scale.fill_(float("nan"))
    teacher.labels = ()
    with pytest.raises(InputError, match="not finite"):
        run(teacher, make_data(labels=None), tmp_path / "run")


def test_an_existing_output_is_kept_without_force(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        run(teacher, make_data(), tmp_path / "run")
    with pytest.raises(InputError, match="files that edgefm did not make, such as mine"):
        run(teacher, make_data(), tmp_path / "run", force=True)
    assert (tmp_path / "run" / "mine").read_text() == "precious"
    (tmp_path / "run" / "mine").rename(tmp_path / "run" / "recipe.yaml")
    run(teacher, make_data(), tmp_path / "run", "distill.epochs=1", force=True)
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()
    before = sorted(tmp_path.rglob("*"))
    lines: list[str] = []
    run(teacher, data, tmp_path / "run", dry_run=True, report=lines.append)
    assert sorted(tmp_path.rglob("*")) == before
    text = "\n".join(lines)
    assert "10 images to learn from, 6 to validate on" in text
    assert "26 teacher passes" in text  # two views of 10, and 6 to validate on
    assert f"0.1 MB for the teacher's answers, which stay in {tmp_path / 'teacher-cache'}" in text
    assert "images/s" in text
    assert "memory" in text


def write_onnx_teacher(path: Path) -> None:
    """Logits (-m, m) of the mean m of the prepared image."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array([[-1, 1]], np.float32), "weights"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "teacher", [images], [logits], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
