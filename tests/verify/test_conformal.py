"""Conformal sets hold the true label as often as promised: by hand, and by simulation against what the theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from edgefm.errors import InputError
from edgefm.runtime.decide import sets, sure
from edgefm.spec.task import Conformal, Task, make_task
from edgefm.verify.answers import Answers
from edgefm.verify.columns import RARE, Column
from edgefm.verify.conformal import conformal_sets, fewest, quantile

from .people import BINARY, contender

THREE = make_task("multiclass", ("a", "b", "c"))


def with_quantile(task: Task, value: float, coverage: float = 0.9) -> Task:
    return replace(task, conformal=Conformal(coverage=coverage, quantile=value))


def test_a_quantile_by_hand() -> None:
    # scores 1 - p[true]: 0.1, 0.5, 0.3, 0.2 of labels a, b, c, a; 60 % of 4: k = ceil(5 * 0.6) = 3, the third smallest is 0.3
    p = np.array([[0.9, 0.1, 0.0], [0.3, 0.5, 0.2], [0.2, 0.1, 0.7], [0.8, 0.1, 0.1]])
    found = quantile(p, np.array([0, 1, 2, 0]), THREE, 0.6)
    assert found == pytest.approx(0.3)
    # labels of at least 0.7 are in the set
    held = sets(np.array([[0.72, 0.2, 0.08], [0.5, 0.4, 0.1], [0.0, 0.29, 0.71]]), with_quantile(THREE, found))
    assert held.tolist() == [[True, False, False], [False, False, False], [False, False, True]]


@pytest.mark.parametrize(("coverage", "n"), [(0.9, 9), (0.95, 19), (0.8, 4), (0.5, 1), (0.99, 99), (2 / 3, 2), (0.1, 1)])
def test_the_fewest_images_are_enough_and_one_fewer_is_refused(coverage: float, n: int) -> None:
    assert fewest(coverage) == n
    p = np.full((n, 2), 0.5)
    assert quantile(p, np.zeros(n, int), BINARY, coverage) == 0.5
    with pytest.raises(InputError, match=f"cannot promise a coverage of .*expected at least {n} with labels"):
        quantile(p[1:], np.zeros(n - 1, int), BINARY, coverage)


def test_tasks_of_several_labels_or_none_are_refused() -> None:
    for kind in ("multilabel", "embedding"):
        with pytest.raises(InputError, match=f"the task is {kind}"):
            quantile(np.ones((20, 2)), np.zeros(20, int), make_task(kind, ("a", "b") if kind == "multilabel" else ()), 0.9)
        with pytest.raises(ValueError, match="has no conformal sets"):
            with_quantile(make_task(kind, ("a",) if kind == "multilabel" else ()), 0.5)
    with pytest.raises(InputError, match="no conformal quantile"):
        sets(np.ones((1, 2)), BINARY)


def test_an_image_of_the_calibration_set_is_in_its_own_set_where_it_made_the_quantile() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), 19)
    labels = np.random.default_rng(1).integers(0, 3, 19)
    found = quantile(p, labels, THREE, 0.9)
    covered = sets(p, with_quantile(THREE, found))[np.arange(19), labels]
    assert covered.sum() == math.ceil(20 * 0.9)  # no rounding between making and using it


@pytest.mark.parametrize("n", [19, 100])
def test_coverage_over_many_calibration_sets_is_the_beta_distribution_of_the_theory(n: int) -> None:
    scipy = pytest.importorskip("scipy.stats")
    random, coverage, rounds = np.random.default_rng(n), 0.9, 400

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:  # a model that is not calibrated, which must not matter
        labels = random.integers(0, 3, count)
        z = random.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
        e = np.exp(3 * z)
        return e / e.sum(axis=1, keepdims=True), labels

    p, labels = draw(20_000)
    scores = np.sort(1 - p[np.arange(len(labels)), labels])
    found = [np.searchsorted(scores, quantile(*draw(n), THREE, coverage), side="right") / len(scores) for _ in range(rounds)]
    k = math.ceil((n + 1) * coverage)
    theory = scipy.beta(k, n + 1 - k)
    assert np.mean(found) == pytest.approx(theory.mean(), abs=4 * theory.std() / math.sqrt(rounds) + 0.01)
    assert scipy.kstest(found, theory.cdf).pvalue > 0.001
    assert np.mean((np.array(found) >= theory.ppf(0.025)) & (np.array(found) <= theory.ppf(0.975))) > 0.91


def test_a_set_is_an_answer_only_where_it_is_the_decision_alone() -> None:
    held = np.array([[True, False], [False, True], [True, True], [False, False], [True, False]])
    assert sure(held, np.array([0, 1, 0, 0, 1])).tolist() == [True, True, False, False, False]


def answer(name: str, p: np.ndarray, task: Task) -> Answers:
    both = np.stack([1 - p, p], axis=1)
    decided = (p >= 0.5).astype(np.int64)
    return Answers(contender=contender(name, task=task), probabilities=both, decided=decided, embedding=None, cosine=None)


@pytest.mark.parametrize(("patients", "told"), [(4, ["X"]), (5, ["X", RARE])])
def test_the_coverage_of_rare_values_of_too_few_patients_is_not_told(patients: int, told: list[str]) -> None:
    who = np.r_[np.arange(20), 20 + np.arange(10) % patients]
    column = Column("site", ("X", RARE), np.repeat([0, 1], [20, 10]))
    answers = [answer("int8", np.full(30, 0.6), with_quantile(BINARY, 0.7))]
    found = conformal_sets(answers, np.ones(30, int), [column], who, seed=0, draws=20)
    assert list(found["int8"]["subgroups"]["site"]) == told


def test_coverage_size_and_what_is_answered_by_hand() -> None:
    # sets hold labels of at least 0.3: {normal}, both, {ill}, both; the third image is normal and called ill
    p, labels = np.array([0.1, 0.6, 0.9, 0.4]), np.array([0, 1, 0, 1])
    column = Column("site", ("X", "Y"), np.array([0, 0, 1, 1]))
    found = conformal_sets(
        [answer("torch", p, BINARY), answer("int8", p, with_quantile(BINARY, 0.7))],
        labels,
        [column],
        np.arange(4),
        seed=0,
        draws=50,
    )
    assert list(found) == ["int8"]
    record = found["int8"]
    assert (record["nominal"], record["quantile"]) == (0.9, 0.7)
    values = {name: record[name]["value"] for name in ("coverage", "size", "empty", "answered", "right")}
    assert values == {"coverage": 0.75, "size": 1.5, "empty": 0.0, "answered": 0.5, "right": 0.5}
    assert {label: each["value"] for label, each in record["classes"].items()} == {"normal": 0.5, "ill": 1.0}
    assert {value: each["value"] for value, each in record["subgroups"]["site"].items()} == {"X": 1.0, "Y": 0.5}
    assert record["coverage"]["low"] < 0.75 < record["coverage"]["high"]


def test_without_labels_sets_have_a_size_and_without_a_quantile_there_is_nothing() -> None:
    p = np.array([0.1, 0.5])
    record = conformal_sets([answer("int8", p, with_quantile(BINARY, 0.2))], None, [], np.arange(2), seed=0, draws=9)["int8"]
    assert (record["size"]["value"], record["empty"]["value"]) == (0.5, 0.5)
    assert "coverage" not in record
    assert conformal_sets([answer("int8", p, BINARY)], None, [], np.arange(2), seed=0) == {}


def test_intervals_of_coverage_hold_the_truth_as_often_as_they_say() -> None:
    random, task, truth = np.random.default_rng(0), with_quantile(BINARY, 0.8), 0.8  # p of the true label is uniform
    held = 0
    for seed in range(100):
        labels, own = random.integers(0, 2, 150), random.random(150)
        p = np.where(labels == 1, own, 1 - own)
        found = conformal_sets([answer("m", p, task)], labels, [], np.arange(150), seed=seed, draws=200)["m"]["coverage"]
        held += found["low"] <= truth <= found["high"]
    assert held >= 88
