"""Contenders beside each other: started anew, then answering in turn, then their models alone in turn.

Not who they are (`bench.py`) and not how it looks (`page.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ..errors import InputError
from .contender import Contender, Started
from .latency import alternate, median, timing, turned

STARTS = 5  # of a new process, each kind
Bar = Callable[[float, float], None]
Word = Literal["answer", "model"]
WORDS: dict[Word, str] = {
    "answer": "2/3  from the file to the answer, in turn, {runs} times each",
    "model": "3/3  the model alone, in turn, {runs} times each",
}


class _Measured:
    """What is seen of one contender. Once it has failed it is not run again, and its times are not a number."""

    def __init__(self, contender: Contender, image: Path, threads: int) -> None:
        self.contender, self.image, self.threads = contender, image, threads
        self.error: str | None = None
        self.starts: dict[str, list[Started]] = {"first": [], "again": []}
        self.process: Started | None = None

    def start(self, cache: Path) -> Started | None:
        """A new process of it; None if it failed, now or before."""
        if self.error is None:
            try:
                kept = cache if self.contender.keeps else None
                return Started(self.contender, image=self.image, threads=self.threads, cache=kept)
            except InputError as error:
                self.error = str(error).rstrip(".")
        return None

    def start_anew(self, work: Path) -> None:
        """Start and end it: with nothing kept, then with what that start left."""
        with TemporaryDirectory(dir=work) as cache:
            for kind in ("first", "again") if self.contender.keeps else ("again",):
                started = self.start(Path(cache))
                if started is not None:
                    started.stop()
                    self.starts[kind].append(started)

    def ask(self, word: Word) -> float:
        if self.process is not None and self.error is None:
            try:
                return self.process.ask(word)
            except InputError as error:
                self.error = str(error).rstrip(".")
        return math.nan

    def record(self, times: Mapping[Word, list[float]]) -> dict[str, Any]:
        """What is known of it beforehand, and either `error` or the measurements."""
        found = {"name": self.contender.name, **self.contender.known}
        if self.process is None or self.error is not None:
            return found | {"error": self.error}
        starts = {
            kind: {
                "seconds": round(median([each.seconds for each in runs]), 4),
                "peak_mib": max(each.peak_mib for each in runs),
                "n": len(runs),
            }
            for kind, runs in self.starts.items()
            if runs
        }
        return found | self.process.facts | {word: timing(taken)._asdict() for word, taken in times.items()} | {"start": starts}


def compare(
    contenders: Sequence[Contender],
    *,
    image: Path,
    runs: int,
    starts: int = STARTS,
    threads: int,
    work: Path,
    report: Callable[[str], None],
    bar: Bar,
) -> list[dict[str, Any]]:
    """Measure every contender.

    Args:
        contenders: at least one, with different names.
        image: the file that all answer for.
        runs: how often each answers, warm. starts: of a new process, each; no more than `runs`.
        work: an empty folder for what contenders keep between their starts.

    Returns:
        One record per contender, in their order: name and what is known of it; then `error`, or its facts (`serve.Work`),
        `answer` and `model` (a `latency.Timing` each, milliseconds), and `start` with `first` (nothing kept from an earlier
        start; absent for a contender that keeps nothing) and `again`: median seconds, largest peak_mib, n; {} for no starts.
    """
    measured = {contender.name: _Measured(contender, image, threads) for contender in contenders}
    starts = min(starts, runs)
    with ExitStack() as running:
        report(f"1/3  {len(contenders)} contenders, {starts} times from a new process to the answer")
        step = _steps(bar)
        for turn in range(starts):
            for name in turned(list(measured), turn):
                measured[name].start_anew(work)
            step(turn + 1, starts)
        for each in measured.values():
            each.process = each.start(work / "warm")
            if each.process is not None:
                running.callback(each.process.stop)
        times: dict[str, dict[Word, list[float]]] = {name: {} for name in measured}
        for word, line in WORDS.items():
            report(line.format(runs=runs))
            calls = {name: partial(each.ask, word) for name, each in measured.items()}
            for name, taken in alternate(calls, runs, step=_steps(bar)).items():
                times[name][word] = taken
    return [each.record(times[name]) for name, each in measured.items()]


def _steps(bar: Bar) -> Callable[[int, int], None]:
    """A stage's progress: its share done and the seconds it still takes."""
    start = time.perf_counter()
    return lambda done, of: bar(done / of, (time.perf_counter() - start) * (of - done) / done)
