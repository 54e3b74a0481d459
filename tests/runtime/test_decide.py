"""Logits to decisions: extreme numbers, ties, thresholds, and what must not become a decision."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.runtime.decide import decisions, probabilities
from edgefm.spec.task import Task, make_task

BINARY = make_task("binary", ("no", "yes"))
THREE = make_task("multiclass", ("a", "b", "c"))
LABELS = Task(kind="multilabel", labels=("a", "b", "c"), thresholds=(0.5, 0.2, 1.0))


@pytest.mark.parametrize("size", [1e-30, 1.0, 700.0, 1e4, 3e38])
@pytest.mark.parametrize("task", [BINARY, THREE, LABELS])
def test_no_finite_logit_overflows_or_loses_its_row_sum(task: Task, size: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        logits = np.array([[-size, size, size][: len(task.labels)], [size, -size, -size][: len(task.labels)]], np.float32)
        chances = probabilities(logits, task)
    assert chances.dtype == np.float64
    assert ((chances >= 0) & (chances <= 1)).all()
    if task.kind != "multilabel":
        np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", [BINARY, THREE, LABELS])
def test_a_logit_that_is_no_number_is_an_error_that_names_the_row(task: Task, bad: float) -> None:
    logits = np.zeros((4, len(task.labels)), np.float32)
    logits[2, 1] = bad
    with pytest.raises(InputError, match="in row 2"):
        probabilities(logits, task)


@pytest.mark.parametrize("task", [BINARY, THREE])
def test_a_temperature_that_leaves_no_probabilities_is_an_error(task: Task) -> None:
    logits = np.ones((1, len(task.labels)), np.float32)
    with np.errstate(all="raise"), pytest.raises(InputError, match=r"the temperature .* makes these logits infinite"):
        probabilities(logits, msgspec.structs.replace(task, temperature=1e-320))


def test_a_sigmoid_has_its_limits_at_any_temperature() -> None:
    cold = msgspec.structs.replace(LABELS, temperature=1e-320)
    assert probabilities(np.array([[1, 0, -1]], np.float32), cold).tolist() == [[1.0, 0.5, 0.0]]


def test_a_probability_that_is_no_number_decides_nothing() -> None:
    with pytest.raises(InputError, match="outside 0 to 1"):
        decisions(np.array([[0.5, np.nan]]), BINARY)
    with pytest.raises(InputError, match="outside 0 to 1"):
        decisions(np.array([[-0.5, 1.5]]), BINARY)


def test_softmax_equals_the_plain_formula_in_float64() -> None:
    z = np.random.default_rng(0).normal(0, 5, (50, 3))
    plain = np.exp(z / 1.7) / np.exp(z / 1.7).sum(axis=1, keepdims=True)
    task = msgspec.structs.replace(THREE, temperature=1.7)
    np.testing.assert_allclose(probabilities(z, task), plain, rtol=1e-13)


def test_sigmoid_equals_the_plain_formula_in_float64() -> None:
    z = np.random.default_rng(0).normal(0, 5, (50, 3))
    np.testing.assert_allclose(probabilities(z, LABELS), 1 / (1 + np.exp(-z)), rtol=1e-13)


def test_a_binary_decision_is_positive_from_the_threshold_on() -> None:
    task = msgspec.structs.replace(BINARY, thresholds=(0.3,))
    chances = np.array([[0.7, 0.3], [0.7000001, 0.2999999], [0.0, 1.0], [1.0, 0.0]])
    assert decisions(chances, task).tolist() == [1, 0, 1, 0]


def test_the_first_of_equal_classes_wins() -> None:
    assert decisions(np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]]), THREE).tolist() == [0, 1]


def test_each_label_has_its_own_threshold() -> None:
    chances = np.array([[0.5, 0.1, 1.0], [0.49, 0.2, 0.99]])
    assert decisions(chances, LABELS).tolist() == [[True, False, True], [False, True, False]]


def test_temperature_changes_probabilities_and_keeps_the_order() -> None:
    z = np.array([[2.0, 1.0, -1.0]])
    cold, hot = (probabilities(z, msgspec.structs.replace(THREE, temperature=t)) for t in (0.5, 5.0))
    assert cold.max() > hot.max()
    assert (np.argsort(cold) == np.argsort(hot)).all()


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 1), (0, 5)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \[N, 2\]"):
        probabilities(np.zeros(shape), BINARY)
    with pytest.raises(InputError, match=r"expected \[N, 2\]"):
        decisions(np.zeros(shape), BINARY)


def test_no_images_give_no_answers() -> None:
    assert probabilities(np.zeros((0, 2), np.float32), BINARY).shape == (0, 2)
    assert decisions(np.zeros((0, 3)), LABELS).shape == (0, 3)


def test_an_embedding_has_neither_probabilities_nor_decisions() -> None:
    with pytest.raises(InputError, match="embedding"):
        probabilities(np.zeros((1, 0)), make_task("embedding"))
