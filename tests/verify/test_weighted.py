"""Metrics of many draws at once are those of each draw alone."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.spec.task import Task, make_task
from edgefm.verify.intervals import bootstrap_intervals, interval, weights
from edgefm.verify.scores import Scores
from edgefm.verify.weighted import Weighted, share

TASKS = [
    make_task("binary", ("no", "yes")),
    make_task("multiclass", ("a", "b", "c", "never")),
    make_task("multilabel", ("a", "b", "rare")),
]


def people(task: Task, n: int, *, steps: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and labels; of a multiclass task one class never occurs."""
    random = np.random.default_rng(n)
    p = random.integers(0, steps, (n, len(task.labels))) / (steps - 1)
    if task.kind == "multilabel":
        return p, (random.random((n, len(task.labels))) < [0.5, 0.3, 0.02]).astype(np.uint8)
    p = (p + 0.1) / (p + 0.1).sum(axis=1, keepdims=True)
    return p, random.integers(0, len(task.labels) - (task.kind == "multiclass"), n)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("n", [1, 2, 37, 300])
def test_every_draw_has_the_metrics_that_it_has_alone(task: Task, n: int) -> None:
    p, labels = people(task, n)
    random = np.random.default_rng(1)
    drawn = [random.integers(n, size=n) for _ in range(20)]
    counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn]).astype(float)
    found = Weighted(p, labels, task).metrics(counts)
    for at, rows in enumerate(drawn):
        for name, expected in Scores(p, labels, task).metrics(rows).items():
            assert found[name][at] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_no_images_and_a_draw_without_any_define_nothing(task: Task) -> None:
    p, labels = people(task, 5)
    for found in (
        Weighted(p[:0], labels[:0], task).metrics(np.ones((2, 0))),
        Weighted(p, labels, task).metrics(np.zeros((2, 5))),
    ):
        assert all(np.isnan(values).all() and values.shape == (2,) for values in found.values())


def test_intervals_of_whole_patients_are_those_of_the_bootstrap() -> None:
    task = TASKS[0]
    p, labels = people(task, 90, steps=50)
    who = np.random.default_rng(0).integers(0, 40, 90)
    theirs = bootstrap_intervals(Scores(p, labels, task).metrics, who, draws=200, seed=5)
    blocks = list(weights(who, draws=200, seed=5))
    mine = Weighted(p, labels, task).metrics(np.concatenate(blocks))
    whole = Weighted(p, labels, task).metrics(np.ones((1, 90)))
    for name, expected in theirs.items():
        assert interval(float(whole[name][0]), mine[name], 0.95) == pytest.approx(expected, abs=1e-12)


def test_draws_come_in_blocks_and_the_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    who = np.arange(30) // 3
    whole = np.concatenate(list(weights(who, draws=10, seed=2)))
    monkeypatch.setattr("edgefm.verify.intervals.AT_ONCE", 100)
    blocks = list(weights(who, draws=10, seed=2))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    assert (np.concatenate(blocks) == whole).all()
    assert (whole.sum(axis=1) == 30).all()
    assert (whole[:, 0::3] == whole[:, 1::3]).all()  # images of one patient are drawn together
    assert list(weights(np.zeros(4), draws=10)) == []


def test_a_share_is_a_mean_over_what_was_drawn() -> None:
    assert share(np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([1.0, 0.0])) == pytest.approx([0.25, np.nan], nan_ok=True)
