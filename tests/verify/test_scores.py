"""F1, Brier and the metrics of any draw: worked by hand, and equal to scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.spec.task import Task, make_task
from edgefm.verify.metrics import GATED, auc, task_metrics
from edgefm.verify.scores import Scores, areas, ranks

TASKS = {
    "binary": Task(kind="binary", labels=("normal", "ill"), thresholds=(0.4,)),
    "multiclass": make_task("multiclass", ("a", "b", "c")),
    "multilabel": Task(kind="multilabel", labels=("a", "b", "c"), thresholds=(0.3, 0.5, 0.6)),
}


def drawn(task: Task, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, and labels that they know something about."""
    random, width = np.random.default_rng(seed), len(task.labels)
    if task.kind == "multilabel":
        labels = (random.random((count, width)) < 0.3).astype(np.uint8)
        return np.round(np.clip(0.4 * labels + 0.6 * random.random((count, width)), 0, 1), 2), labels
    labels = random.integers(0, width, count)
    probabilities = random.dirichlet(np.ones(width), count) * 0.7 + 0.3 * np.eye(width)[labels]
    return np.round(probabilities * 50) / 50, labels


def test_an_example_worked_by_hand() -> None:
    positive, labels = np.array([0.9, 0.4, 0.5, 0.1]), np.array([1, 1, 0, 0])
    found = task_metrics(np.stack([1 - positive, positive], axis=1), labels, TASKS["binary"])
    assert found == {
        "auc": 3 / 4,  # of the four pairs, (0.4, 0.5) is the wrong way round
        "sensitivity": 1.0,  # 0.9 and 0.4 are at 0.4 or above
        "specificity": 1 / 2,
        "balanced_accuracy": 3 / 4,
        "f1": pytest.approx(2 * 2 / (2 * 2 + 1)),
        "brier": pytest.approx((0.01 + 0.36 + 0.25 + 0.01) / 4),
    }


def test_the_brier_score_of_several_classes_is_a_sum_over_them_and_of_several_labels_a_mean() -> None:
    certain_and_wrong = np.array([[1.0, 0.0, 0.0]])
    assert task_metrics(certain_and_wrong, np.array([1]), TASKS["multiclass"])["brier"] == 2.0
    assert task_metrics(certain_and_wrong, np.array([[0, 1, 1]]), TASKS["multilabel"])["brier"] == 1.0


@pytest.mark.parametrize("kind", list(TASKS))
@pytest.mark.parametrize("seed", range(5))
def test_f1_and_brier_equal_scikit_learn(kind: str, seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    task = TASKS[kind]
    probabilities, labels = drawn(task, 150, seed)
    found = task_metrics(probabilities, labels, task)
    if kind == "binary":
        decided, average = probabilities[:, 1] >= task.thresholds[0], "binary"
        brier = sklearn.brier_score_loss(labels, probabilities[:, 1])
    elif kind == "multiclass":
        decided, average = probabilities.argmax(axis=1), "macro"
        brier = np.mean([sklearn.brier_score_loss(labels == k, probabilities[:, k]) for k in range(3)]) * 3
    else:
        decided, average = probabilities >= task.thresholds, "macro"
        brier = np.mean([sklearn.brier_score_loss(labels[:, k], probabilities[:, k]) for k in range(3)])
    assert found["f1"] == pytest.approx(sklearn.f1_score(labels, decided, average=average), abs=1e-12)
    assert found["brier"] == pytest.approx(brier, abs=1e-12)


@pytest.mark.parametrize("kind", list(TASKS))
def test_a_draw_measured_by_counting_equals_the_metrics_of_its_images(kind: str) -> None:
    task, random = TASKS[kind], np.random.default_rng(0)
    probabilities, labels = drawn(task, 60, 1)
    scores = Scores(probabilities, labels, task)
    for _ in range(20):
        rows = random.integers(0, 60, 60)
        assert scores.metrics(rows) == pytest.approx(task_metrics(probabilities[rows], labels[rows], task), abs=1e-12)


def test_each_label_is_measured_against_the_rest_and_one_that_never_occurs_is_undefined() -> None:
    probabilities, labels = drawn(TASKS["multilabel"], 80, 2)
    labels[:, 1] = 0
    found = Scores(probabilities, labels, TASKS["multilabel"]).by_label(np.arange(80))
    for k, threshold in ((0, 0.3), (2, 0.6)):
        assert found["auc"][k] == pytest.approx(auc(probabilities[:, k], labels[:, k] == 1))
        assert found["sensitivity"][k] == pytest.approx((probabilities[:, k] >= threshold)[labels[:, k] == 1].mean())
    assert {name for name, values in found.items() if np.isnan(values[1])} == {"auc", "sensitivity", "f1"}


def test_the_areas_of_many_columns_at_once_are_those_of_each() -> None:
    random = np.random.default_rng(3)
    scores, truth = random.integers(0, 9, (200, 6)) / 8, random.random((200, 6)) < [0, 0.01, 0.2, 0.5, 0.99, 1]
    wanted = [auc(scores[:, k], truth[:, k]) for k in range(6)]
    assert areas(*ranks(scores, truth)) == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert np.isnan(wanted[0])
    assert np.isnan(wanted[5])


def test_the_gate_looks_at_what_it_looked_at_before() -> None:
    for kind in TASKS:
        assert GATED[kind] == ("auc", "balanced_accuracy")  # type: ignore[index]
