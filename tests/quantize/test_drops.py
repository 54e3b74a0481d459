"""What is lost has an interval from pairs: the same images before and after, whole patients at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefm.quantize.decide import judge
from edgefm.quantize.drops import drops
from edgefm.spec.task import Task, make_task

BINARY = make_task("binary", ("normal", "ill"))
MULTILABEL = make_task("multilabel", ("a", "b"))
MULTICLASS = make_task("multiclass", ("a", "b", "c"))


def noisy(task: Task, n: int = 60, noise: float = 1.0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """fp32's outputs, int8's, and labels."""
    random = np.random.default_rng(0)
    width = len(task.labels) or 2
    labels = random.integers(0, 2, (n, width)) if task.kind == "multilabel" else random.integers(0, width, n)
    logits = random.normal(size=(n, width)) + (labels if labels.ndim == 2 else np.eye(width)[labels])
    embedding = random.normal(size=(n, 5)) + 2 * labels.reshape(n, -1)[:, :1]
    off = random.normal(size=logits.shape)
    before = {"logits": logits, "embedding": embedding}
    return before, {"logits": logits + noise * off, "embedding": embedding + noise * random.normal(size=(n, 5))}, labels


@pytest.mark.parametrize("task", [BINARY, MULTILABEL, MULTICLASS, make_task("embedding")], ids=lambda task: task.kind)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_values_are_the_gates_own_and_lie_in_their_intervals(task: Task, labelled: bool) -> None:
    before, after, labels = noisy(task)
    known = labels if labelled else None
    found = drops({"x-int8": after}, before, task, known, np.arange(60), seed=0)["x-int8"]
    reference, row = judge("fp32", before, before, task, known), judge("x-int8", after, before, task, known)
    lost = {name: reference.metrics[name] - value for name, value in row.metrics.items() if name != "brier"}
    assert set(found) == set(lost) | ({"flips"} if task.kind != "embedding" else set())
    for name, value in lost.items():
        assert found[name].value == pytest.approx(value, abs=1e-12)
        assert found[name].low <= value <= found[name].high
    if task.kind != "embedding":
        assert found["flips"].value == pytest.approx(row.flips)


def test_what_is_hard_about_the_images_cancels() -> None:
    """The AUC itself is uncertain; that nothing is lost is not."""
    before, _, labels = noisy(BINARY)
    found = drops({"same": before}, before, BINARY, labels, np.arange(60), seed=0)["same"]
    assert all(each.value == each.low == each.high == 0 for each in found.values())


def test_images_of_one_patient_do_not_count_as_several() -> None:
    before, after, labels = noisy(BINARY, n=20)
    four = [{name: np.repeat(value, 4, axis=0) for name, value in each.items()} for each in (before, after)]
    labels = np.repeat(labels, 4)
    by_patient = drops({"x": four[1]}, four[0], BINARY, labels, np.repeat(np.arange(20), 4), seed=0)["x"]["flips"]
    by_image = drops({"x": four[1]}, four[0], BINARY, labels, np.arange(80), seed=0)["x"]["flips"]
    assert by_patient.value == by_image.value
    assert by_patient.high - by_patient.low > 1.5 * (by_image.high - by_image.low)


def test_one_class_leaves_its_metrics_undefined_and_the_flips_with_an_interval() -> None:
    before, after, _ = noisy(BINARY)
    found = drops({"x": after}, before, BINARY, np.ones(60, int), np.arange(60), seed=0)["x"]
    assert math.isnan(found["auc"].value)
    assert found["flips"].low <= found["flips"].value <= found["flips"].high


def test_one_image_has_values_and_no_intervals() -> None:
    before, after, labels = noisy(BINARY, n=1)
    found = drops({"x": after}, before, BINARY, labels, np.arange(1), seed=0)["x"]
    assert math.isnan(found["flips"].low)
    alone = drops({"x": after}, before, make_task("embedding"), labels, np.arange(1), seed=0)["x"]
    assert set(alone) == {"mean_cosine"}


def test_copies_of_an_image_in_a_draw_are_not_each_others_neighbours() -> None:
    """Labels without relation to the embeddings: among copies of themselves, all images would be right."""
    random = np.random.default_rng(1)
    outputs = {"embedding": random.normal(size=(40, 8))}
    other = {"embedding": random.normal(size=(40, 8))}
    found = drops({"x": other}, outputs, make_task("embedding"), random.integers(0, 2, 40), np.arange(40), seed=0)["x"]
    assert found["knn_accuracy"].low < 0 < found["knn_accuracy"].high
