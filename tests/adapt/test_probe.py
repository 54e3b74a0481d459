"""The regression: scikit-learn's own answers, the choice of C, and data that teach little or nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from edgefm.adapt import probe as room
from edgefm.adapt.probe import GRID, Probe, few_threads, fit_probe
from edgefm.spec.task import Task, make_task

BINARY = make_task("binary", ("normal", "pneumonia"))
THREE = make_task("multiclass", ("a", "b", "c"))
MANY = make_task("multilabel", ("a", "b", "c"))


def draw(task: Task, count: int, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that tell the labels, not without mistakes; each with a mean and a scale of its own."""
    rng = np.random.default_rng([seed, count])
    if task.kind == "multilabel":
        labels = rng.integers(0, 2, (count, len(task.labels))).astype(np.uint8)
        hint = labels.astype(float)
    else:
        labels = np.arange(count) % len(task.labels)
        hint = np.eye(len(task.labels))[labels]
    mixing = np.random.default_rng(9).normal(size=(hint.shape[1], width))
    features = hint @ mixing + rng.normal(size=(count, width))
    return (10 + 3 * np.arange(1, width + 1) * features).astype(np.float32), labels


def logits(probe: Probe, features: np.ndarray) -> np.ndarray:
    return features.astype(np.float64) @ probe.weight.T.astype(np.float64) + probe.bias


@pytest.mark.parametrize("task", [BINARY, THREE, MANY], ids=lambda task: task.kind)
@pytest.mark.parametrize("count", [60, 4], ids=["many images", "fewer images than features"])
def test_logits_are_scikit_learns_decision_functions(task: Task, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    C = 0.1
    monkeypatch.setattr(room, "GRID", (C,))
    features, labels = draw(task, count)
    if task is MANY:
        labels[0], labels[1] = 0, 1
    found = logits(fit_probe((features, labels), draw(task, 30, seed=1), task), features)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))

    def decision(target: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=C, class_weight="balanced", max_iter=1000)
        return model.fit(scaled, target).decision_function(scaled)  # type: ignore[no-any-return]

    if task is MANY:
        expected = np.stack([decision(labels[:, label]) for label in range(3)], axis=1)
    else:
        expected = decision(labels)
    if task is BINARY:
        np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=1e-5)
        np.testing.assert_allclose(found[:, 0], -found[:, 1], atol=1e-5)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_warm_start_ends_where_a_cold_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = draw(THREE, 60), draw(THREE, 30, seed=1)
    warm = fit_probe(train, val, THREE)
    monkeypatch.setattr(room, "GRID", (warm.C,))
    np.testing.assert_allclose(logits(warm, val[0]), logits(fit_probe(train, val, THREE), val[0]), atol=1e-2)


def test_the_best_c_has_the_highest_auc_then_balanced_accuracy() -> None:
    probe = fit_probe(draw(BINARY, 80), draw(BINARY, 41, seed=1), BINARY)
    scores = [(trial["auc"], trial["balanced_accuracy"]) for trial in probe.trials]
    assert [trial["C"] for trial in probe.trials] == list(GRID)
    assert scores.index(max(scores)) == GRID.index(probe.C)  # the first of equals, so the strongest
    assert len(set(scores)) > 1
    assert probe.chosen["C"] == probe.C


def test_of_equals_the_strongest_regularisation_wins() -> None:
    labels = np.arange(20) % 2
    features = np.stack([labels * 2.0 - 1, np.zeros(20)], axis=1).astype(np.float32)  # told apart by any C
    found = fit_probe((features, labels), (features, labels), BINARY)
    assert GRID.index(found.C) == 0


def test_one_validation_image_lets_the_loss_decide() -> None:
    features, labels = draw(BINARY, 1, seed=1)
    probe = fit_probe(draw(BINARY, 40), (features, labels), BINARY)
    losses = [trial["loss"] for trial in probe.trials]
    assert GRID.index(probe.C) == losses.index(min(losses))
    assert not {"auc", "balanced_accuracy"} & set(probe.chosen)


def test_a_single_feature_is_enough() -> None:
    features, labels = draw(BINARY, 40, width=1)
    probe = fit_probe((features, labels), (features, labels), BINARY)
    assert probe.weight.shape == (2, 1)
    assert probe.chosen["auc"] > 0.6


def test_features_that_say_nothing_get_no_weight() -> None:
    features, labels = draw(BINARY, 40)
    features[:, 1] = 7.3  # float64 sums leave a rest that is no spread
    features[:, 2] = 1e4 + np.arange(40) % 2 * 1e-3  # below what float32 can tell at this size
    probe = fit_probe((features, labels), (features, labels), BINARY)
    assert not probe.weight[:, 1:3].any()
    assert probe.weight[:, [0, 3, 4]].all()
    constant = np.ones((40, 3), np.float32)
    blind = fit_probe((constant, labels), (constant, labels), BINARY)
    assert not blind.weight.any()
    assert np.isfinite(blind.bias).all()


def test_a_large_mean_costs_no_accuracy() -> None:
    features, labels = draw(BINARY, 60)
    shifted = (features + 2000).astype(np.float32)
    one, other = (fit_probe((each, labels), (each, labels), BINARY) for each in (features, shifted))
    single = shifted @ other.weight.T + other.bias  # as the model computes it, in float32
    np.testing.assert_allclose(single, logits(one, features), atol=2e-2)


def test_rare_classes_count_as_much_as_common_ones() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(200) < 10).astype(np.int64)
    features = (rng.normal(size=(200, 1)) + 2 * labels[:, None]).astype(np.float32)
    probe = fit_probe((features, labels), (features, labels), BINARY)
    assert probe.chosen["sensitivity"] > 0.7


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_that_none_or_all_have_is_answered_so(value: int) -> None:
    features, labels = draw(MANY, 40)
    labels[:, 1] = value
    val = draw(MANY, 20, seed=1)
    probe = fit_probe((features, labels), val, MANY)
    assert not probe.weight[1].any()
    assert probe.bias[1] == pytest.approx((1 if value else -1) * math.log(40.5 / 0.5))
    assert probe.weight[[0, 2]].all()


def test_the_same_images_give_the_same_bytes() -> None:
    train, val = draw(THREE, 50), draw(THREE, 20, seed=1)
    one, two = (fit_probe(train, val, THREE) for _ in range(2))
    assert one.weight.tobytes() == two.weight.tobytes()
    assert one.bias.tobytes() == two.bias.tobytes()
    assert one.trials == two.trials


def test_a_regression_that_has_not_settled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "STEPS", 2)
    probe = fit_probe(draw(BINARY, 40), draw(BINARY, 20, seed=1), BINARY)
    assert not all(trial["converged"] for trial in probe.trials)


def test_progress_counts_the_grid() -> None:
    seen: list[tuple[int, int]] = []
    fit_probe(draw(BINARY, 20), draw(BINARY, 10, seed=1), BINARY, lambda done, count: seen.append((done, count)))
    assert seen == [(number, len(GRID)) for number in range(1, len(GRID) + 1)]


def test_small_regressions_run_in_one_thread_and_large_ones_in_all() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info()}

    before = threads()
    with few_threads(room.SERIAL):
        assert threads() == {1}
    with few_threads(room.SERIAL + 1):
        assert threads() == before
    assert threads() == before
