"""Beside the stored threshold: of one label, of several, and where the images define nothing."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.runtime.decide import decisions
from edgefm.spec.task import TaskKind, make_task
from edgefm.verify.operating import Operating


def operating(probabilities: np.ndarray, labels: np.ndarray, kind: TaskKind = "binary") -> Operating:
    task = make_task(kind, tuple("abcdef"[: probabilities.shape[1]]))
    return Operating(probabilities, decisions(probabilities, task), labels, task)


def pair(ill: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(ill), ill], axis=1)


def test_of_a_binary_task_the_positive_class_counts() -> None:
    found = operating(pair([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])).metrics(np.arange(4))
    assert found["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["mcc"] == pytest.approx((1 * 2 - 0 * 1) / np.sqrt(1 * 2 * 2 * 3))  # 1 of 2 ill found, none wrongly
    assert found["sensitivity_at_0.9_specificity"] == 0.5
    assert found["specificity_at_0.95_sensitivity"] == 0.5


def test_a_draw_counts_an_image_as_often_as_it_holds_it() -> None:
    twice = operating(pair([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])).metrics(np.array([0, 1, 1, 2, 2, 3]))
    written = operating(pair([0.1, 0.4, 0.4, 0.35, 0.35, 0.8]), np.array([0, 0, 0, 1, 1, 1])).metrics(np.arange(6))
    assert twice == written


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_defines_no_trade_off(label: int) -> None:
    found = operating(pair([0.1, 0.9]), np.array([label, label])).metrics(np.arange(2))
    assert np.isnan(found["mcc"])
    assert np.isnan(found["sensitivity_at_0.9_specificity"])
    assert np.isnan(found["auprc"]) == (label == 0)


def test_of_several_classes_those_that_occur_are_averaged() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    found = operating(probabilities, np.array([0, 1, 0]), "multiclass").metrics(np.arange(3))
    assert found == {"auprc": 1.0, "mcc": 1.0}


def test_of_several_labels_each_has_its_own_decisions() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0]], np.uint8)
    found = operating(np.array([[0.9, 0.2], [0.8, 0.1], [0.7, 0.3]]), labels, "multilabel").metrics(np.arange(3))
    assert found["mcc"] == 0  # all are said to have the first label, and nobody has the second
    assert found["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
