"""Metrics equal scikit-learn's where both are defined, and say NaN where the images define none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.spec.task import Task, make_task
from edgefm.verify.metrics import auc, defined, embedding_metrics, flips, knn_accuracy, task_metrics

BINARY = make_task("binary", ("normal", "ill"))
THREE = make_task("multiclass", ("a", "b", "c"))


def columns(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 1000])
def test_auc_counts_ties_as_one_half_like_scikit_learn(levels: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(levels)
    for _ in range(20):
        scores = random.integers(0, levels, 57) / levels
        truth = random.random(57) < 0.3
        truth[:2] = True, False
        assert auc(scores, truth) == pytest.approx(sklearn.roc_auc_score(truth, scores), abs=1e-12)


def test_one_class_only_makes_the_auc_undefined_and_nothing_crashes() -> None:
    for label in (0, 1):
        metrics = task_metrics(columns(np.array([0.2, 0.7, 0.9])), np.full(3, label), BINARY)
        assert math.isnan(metrics["auc"])
        assert math.isnan(metrics["balanced_accuracy"])
        assert math.isnan(metrics["specificity" if label else "sensitivity"])
        assert list(defined(metrics)) == (["sensitivity", "f1", "brier"] if label else ["specificity", "brier"])


def test_no_images_at_all_give_nan_and_no_warning() -> None:
    for task in (BINARY, THREE):
        metrics = task_metrics(np.empty((0, len(task.labels))), np.empty(0, dtype=np.int64), task)
        assert all(math.isnan(value) for value in metrics.values())
    assert math.isnan(flips(np.empty(0), np.empty(0)))


def test_binary_metrics_use_the_stored_threshold() -> None:
    task = Task(kind="binary", labels=("normal", "ill"), thresholds=(0.3,))
    metrics = task_metrics(columns(np.array([0.1, 0.3, 0.29, 0.9])), np.array([0, 1, 1, 0]), task)
    assert metrics["sensitivity"] == 0.5
    assert metrics["specificity"] == 0.5
    assert metrics["balanced_accuracy"] == 0.5
    assert metrics["auc"] == 0.5


def test_multiclass_metrics_equal_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 200)
    labels = random.integers(0, 3, 200)
    metrics = task_metrics(probabilities, labels, THREE)
    assert metrics["auc"] == pytest.approx(sklearn.roc_auc_score(labels, probabilities, multi_class="ovr"), abs=1e-12)
    assert metrics["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(labels, probabilities.argmax(1)))
    assert metrics["sensitivity"] == metrics["balanced_accuracy"]


def test_a_class_without_images_is_left_out_of_the_means() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    metrics = task_metrics(probabilities, np.array([0, 1, 1]), THREE)
    ones = dict.fromkeys(("auc", "sensitivity", "specificity", "balanced_accuracy", "f1"), 1.0)
    assert metrics == ones | {"brier": pytest.approx((0.06 + 0.06 + 0.14) / 3)}


def test_multilabel_metrics_are_means_over_the_labels_that_define_them() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    task = make_task("multilabel", ("a", "b", "never"))
    random = np.random.default_rng(1)
    probabilities = random.random((90, 3))
    labels = (random.random((90, 3)) < 0.4).astype(np.uint8)
    labels[:, 2] = 0
    metrics = task_metrics(probabilities, labels, task)
    assert metrics["auc"] == pytest.approx(sklearn.roc_auc_score(labels[:, :2], probabilities[:, :2]), abs=1e-12)
    recalls = [sklearn.recall_score(labels[:, k], probabilities[:, k] >= 0.5) for k in range(2)]
    assert metrics["sensitivity"] == pytest.approx(np.mean(recalls))


def test_shapes_labels_and_numbers_that_do_not_fit_are_refused() -> None:
    good = columns(np.array([0.2, 0.7]))
    with pytest.raises(InputError, match="not finite"):
        task_metrics(np.array([[np.nan, 0.5], [0.5, 0.5]]), np.array([0, 1]), BINARY)
    with pytest.raises(InputError, match="shape"):
        task_metrics(good, np.array([0, 1, 1]), BINARY)
    with pytest.raises(InputError, match="labels from 0 to 2"):
        task_metrics(good, np.array([0, 2]), BINARY)
    with pytest.raises(InputError, match=r"\[N, 3\]"):
        task_metrics(good, np.array([0, 1]), THREE)


def test_flips_count_images_and_any_label_of_them() -> None:
    assert flips(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])) == 0.25
    one = np.array([[True, False], [False, False]])
    assert flips(one, ~one) == 1.0
    assert flips(one, np.array([[True, True], [False, False]])) == 0.5
    with pytest.raises(InputError, match="the same images"):
        flips(np.zeros(3), np.zeros(4))


def test_embeddings_are_compared_by_direction_and_neighbours() -> None:
    random = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 20)
    centres = random.normal(size=(3, 16))
    reference = centres[labels] + 0.1 * random.normal(size=(60, 16))
    assert embedding_metrics(reference * 7, reference, labels) == {
        "mean_cosine": pytest.approx(1.0),
        "knn_accuracy": 1.0,
    }
    assert embedding_metrics(-reference, reference) == {"mean_cosine": pytest.approx(-1.0)}
    assert knn_accuracy(random.normal(size=(60, 16)), labels) < 0.7
    assert math.isnan(knn_accuracy(reference[:1], labels[:1]))
    assert embedding_metrics(np.zeros((4, 3)), np.ones((4, 3)))["mean_cosine"] == 0.0


def test_knn_equals_scikit_learn_without_ties() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    random = np.random.default_rng(3)
    x, labels = random.normal(size=(80, 5)), random.integers(0, 2, 80)
    right = 0
    for i in range(80):
        rest = np.arange(80) != i
        model = neighbors.KNeighborsClassifier(5, metric="cosine", weights=lambda distance: 1 - distance).fit(
            x[rest], labels[rest]
        )
        right += int(model.predict(x[i : i + 1])[0] == labels[i])
    assert knn_accuracy(x, labels) == pytest.approx(right / 80, abs=0.02)
