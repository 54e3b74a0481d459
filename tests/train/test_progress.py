"""What a run tells: the time left, from what was timed, also after it was resumed or where it may stop early."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefm.spec.recipe import TrainRecipe
from edgefm.train import checkpoint, progress
from edgefm.train.loop import fit
from edgefm.train.progress import Clock, Report

from .runs import Stop, run, training_of


class Time:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock_time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_the_time_left_counts_every_phase_that_is_left(clock_time: Time) -> None:
    told: list[tuple[float, float]] = []
    lines: list[str] = []
    clock = Clock(Report(lines.append, lambda share, left: told.append((share, left))), TrainRecipe(epochs=5, views=2))
    clock.start(0)
    clock_time.now += 30
    clock.prepared(0)
    clock_time.now += 10
    clock.step(50, 100)
    assert told[-1] == pytest.approx((0.1, 10 + 4 * 20 + 30))  # this epoch, four more, one more view to prepare
    clock_time.now += 10
    assert clock.trained(100) == pytest.approx(5)
    clock_time.now += 4
    clock.done({"epoch": 1, "loss": 1.0, "images_per_s": 5.0})
    assert lines[-1].endswith("2 min left")  # 4 x (20 + 4) + 30 = 126 s


def test_a_resumed_epoch_is_timed_from_where_it_goes_on(clock_time: Time) -> None:
    told: list[float] = []
    clock = Clock(Report(bar=lambda share, left: told.append(left)), TrainRecipe(epochs=1))
    clock.start(0)
    clock.prepared(80)
    clock_time.now += 10
    clock.step(90, 100)
    assert told[-1] == pytest.approx(10)
    clock_time.now += 10
    assert clock.trained(100) == pytest.approx(1)


def test_lines_tell_where_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    for step, wanted in (
        (3, "going on after epoch 1 of 4"),
        (1, "going on after epoch 1 of 4 and 1 of the next one's 3 steps"),
    ):
        with pytest.raises(Stop):
            run(training_of(stop=step), tmp_path / "run", resume=True)
        lines: list[str] = []
        with pytest.raises(Stop):
            fit(training_of(stop=0), tmp_path / "run", identity={"lr": 0.02}, resume=True, report=Report(lines.append))
        assert lines == [wanted]


def test_where_a_run_may_stop_early_the_time_left_is_the_most_it_can_be(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "run").mkdir()
    training = training_of(val=0, recipe=TrainRecipe(epochs=2, batch=4, patience=1))
    fit(training, tmp_path / "run", identity={}, resume=False, report=Report(lines.append))
    assert [line.endswith("left at most") for line in lines] == [True, False]
