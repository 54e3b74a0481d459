"""What a person sees of a run: a line per epoch with the time left, and how far the epoch is for a progress bar.

Not the drawing: the front door decides where lines go and whether a bar is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..spec.recipe import TrainRecipe


def silent(text: str) -> None:
    """Report nothing."""


def no_bar(share: float, seconds_left: float) -> None:
    """Show no bar."""


@dataclass(frozen=True)
class Report:
    """Where progress goes.

    Attributes:
        line: takes a sentence.
        bar: takes the share that is done, 0 to 1, and the seconds left, a few times per second at most; nan while unknown.
    """

    line: Callable[[str], None] = silent
    bar: Callable[[float, float], None] = no_bar


class Clock:
    """Times a run's phases and tells what is left: preparing (first epoch of each view), training and validating.

    Where a run may stop early, what is left is the most it can be.
    """

    def __init__(self, report: Report, recipe: TrainRecipe) -> None:
        self.report, self.epochs, self.views = report, recipe.epochs, recipe.views
        self.left = "left at most" if recipe.patience else "left"
        self.epoch = self.first = 0
        self.prepare_s = self.train_s = self.rest_s = float("nan")
        self._started = self._mark = self._shown = time.perf_counter()

    def start(self, epoch: int) -> None:
        """Epoch `epoch`, from 0, begins."""
        self.epoch = epoch
        self._started = self._mark = time.perf_counter()

    def preparing(self, done: int, count: int) -> None:
        """`done` of `count` images are prepared."""
        self._bar(0.0, self._lap() * (count - done) / max(done, 1))

    def prepared(self, first: int) -> None:
        """Preparing is over; training begins, after `first` images that were shown before the run was stopped."""
        self.first = first
        self.prepare_s = self._lap()
        self._mark = time.perf_counter()

    def step(self, done: int, count: int) -> None:
        """`done` of `count` images have been shown."""
        self.train_s = count / self._rate(done)
        self._bar(done / count, (count - done) / self._rate(done))

    def trained(self, count: int) -> float:
        """All `count` images have been shown, validation begins. Returns images per second."""
        rate = self._rate(count)
        self.train_s = count / rate
        self._mark = time.perf_counter()
        return rate

    def epoch_seconds(self) -> float:
        """Seconds since the epoch began, or was resumed."""
        return time.perf_counter() - self._started

    def done(self, line: dict[str, Any]) -> None:
        """The epoch is over; `line` is its entry in metrics.jsonl."""
        self.rest_s = self._lap()
        words = [f"epoch {line['epoch']}/{self.epochs}", f"loss {line['loss']:.4f}"]
        words += [f"{name.replace('_', ' ')} {value:.4f}" for name, value in line.items() if name.startswith("val_")]
        words.append(f"{line['images_per_s']:.0f} images/s")
        if line["epoch"] < self.epochs:
            words.append(f"{duration(self._later())} {self.left}")
        self.report.line(", ".join(words))

    def _lap(self) -> float:
        return time.perf_counter() - self._mark

    def _rate(self, done: int) -> float:
        """Images per second since training began or was resumed."""
        return max(done - self.first, 1) / max(self._lap(), 1e-9)

    def _later(self) -> float:
        """Seconds of the epochs after this one."""
        rest = 0.0 if self.rest_s != self.rest_s else self.rest_s
        first = max(0, min(self.views, self.epochs) - self.epoch - 1)
        return (self.epochs - self.epoch - 1) * (self.train_s + rest) + first * self.prepare_s

    def _bar(self, share: float, left: float) -> None:
        now = time.perf_counter()
        if now - self._shown > 0.3:
            self._shown = now
            self.report.bar((self.epoch + share) / self.epochs, left + self._later())


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
