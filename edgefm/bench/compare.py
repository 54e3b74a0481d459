"""Contenders beside each other: started anew, then answering in turn, then their models alone in turn; then what more there is.

Not who they are (`bench.py`) and not how it looks (`page.py`).

How much two processes of one contender differ is seen at the starts: each that found something kept answers `AGAIN` times more
before it ends, and the medians of those processes differ by what no interval within one process can show.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from ..errors import InputError
from .contender import NO_LIMITS, Contender, Limits, Started
from .energy import NOT_READABLE, Meter
from .latency import alternate, median, timing, turned
from .paths import without_paths
from .serve import STAGES

STARTS = 5  # of a new process, each kind
AGAIN = 10  # answers of each new process, after 3 that do not count
STAGED = 30  # answers with a look at the clock between their stages
BATCHES = (1, 4, 16)
Bar = Callable[[float, float], None]
Found = TypeVar("Found")
Word = Literal["answer", "model"]
WORDS: dict[Word, str] = {
    "answer": "from the file to the answer, in turn, {runs} times each",
    "model": "the model alone, in turn, {runs} times each",
}


class _Measured:
    """What is seen of one contender. Once it has failed it is not run again, and its times are not a number."""

    def __init__(self, contender: Contender, image: Path, threads: int, limits: Limits) -> None:
        self.contender, self.image, self.threads, self.limits = contender, image, threads, limits
        self.error: str | None = None
        self.uncapped: str | None = None
        self.fresh: list[float] = []
        self.more: dict[str, Any] = {}
        self.starts: dict[str, list[Started]] = {"first": [], "again": []}
        self.process: Started | None = None

    def start(self, cache: Path) -> Started | None:
        """A new process of it; None if it failed, now or before."""
        if self.error is not None:
            return None
        try:
            return self._started(cache)
        except InputError as error:
            self.error = self._why(error)
        if self.limits.environment and not any(self.starts.values()):  # it may be the cap that it cannot bear
            self.limits = replace(self.limits, environment={})
            with suppress(InputError):
                started = self._started(cache)
                self.uncapped, self.error = self.error, None
                return started
        return None

    def _started(self, cache: Path) -> Started:
        kept = cache if self.contender.keeps else None
        return Started(self.contender, image=self.image, threads=self.threads, cache=kept, limits=self.limits)

    def start_anew(self, work: Path, again: int) -> None:
        """Start and end it: with nothing kept, then with what that start left, when it answers `again` times more."""
        with TemporaryDirectory(dir=work) as cache:
            for kind in ("first", "again") if self.contender.keeps else ("again",):
                self.process = self.start(Path(cache))
                if self.process is not None:
                    with ExitStack() as running:
                        running.callback(self.process.stop)
                        if kind == "again" and again:
                            self.fresh.append(median([self.ask("answer") for _ in range(3 + again)][3:]))
                    self.starts[kind].append(self.process)
                self.process = None

    def ask(self, word: Word) -> float:
        taken = self._try(lambda process: process.ask(word))
        return math.nan if taken is None else taken

    def stage(self, runs: int) -> None:
        """The median of each stage over several answers."""
        taken = [found for found in (self._try(lambda process: process.stages()) for _ in range(runs)) if found]
        if taken:
            self.more["stages"] = {name: round(median([each[name] for each in taken]), 4) for name in STAGES}

    def spend(self, meter: Meter) -> None:
        """Energy per answer."""
        self.more["energy"] = meter.per_call(lambda: self.ask("answer")) or NOT_READABLE

    def fill(self, threads: int) -> None:
        """Images per second over batch sizes and threads, each loaded anew. Its last stage: what fails here fails alone."""
        if self.process is None or self.error is not None:
            return
        grid = self.more["throughput"] = []
        for many, size in product(sorted({1, threads}), BATCHES):
            try:
                taken = self.process.batches(size, many)
            except InputError as error:
                self.more["throughput_stopped"] = f"{size} images on {many} threads: {self._why(error)}"
                return
            if taken:
                rate = round(1e3 * size / median(taken), 2)
                grid.append({"batch": size, "threads": many, "images_per_second": rate, "n": len(taken)})

    def _try(self, what: Callable[[Started], Found]) -> Found | None:
        if self.process is not None and self.error is None:
            try:
                return what(self.process)
            except InputError as error:
                self.error = self._why(error)
        return None

    def _why(self, error: InputError) -> str:
        """The sentence of an error, for a record that leaves the machine: the image has no name there."""
        names = {str(path): "the image" for path in (self.image, self.image.absolute(), self.image.name)}
        if "path" in self.contender.settings:
            names[str(self.contender.settings["path"])] = Path(self.contender.settings["path"]).name
        return without_paths(str(error).rstrip("."), names)

    def record(self, times: Mapping[Word, list[float]]) -> dict[str, Any]:
        """What is known of it beforehand, and either `error` or the measurements."""
        found = {"name": self.contender.name, **self.contender.known}
        if self.uncapped is not None:
            found["uncapped"] = self.uncapped
        if self.process is None or self.error is not None:
            return found | {"error": self.error}
        starts = {
            kind: {
                "seconds": round(median([each.seconds for each in runs]), 4),
                "peak_mib": max(each.peak_mib for each in runs),
                "n": len(runs),
                "range": [round(end(each.seconds for each in runs), 4) for end in (min, max)],
            }
            for kind, runs in self.starts.items()
            if runs
        }
        spread = _spread(self.fresh)
        known = self.process.facts | {word: timing(taken)._asdict() for word, taken in times.items()} | {"start": starts}
        return found | known | self.more | ({} if spread is None else {"between_processes": round(spread, 5)})


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
    limits: Limits = NO_LIMITS,
    details: bool = False,
    throughput: bool = False,
    meter: Meter | None = None,
) -> list[dict[str, Any]]:
    """Measure every contender.

    Args:
        contenders: at least one, with different names.
        image: the file that all answer for.
        runs: how often each answers, warm. starts: of a new process, each; no more than `runs`.
        work: an empty folder for what contenders keep between their starts.
        limits: what each process may use. One that does not start with their environment is started without, and says so.
        details: the stages of an answer, the peak memory after all of that, and the difference between processes, too.
        throughput: over `BATCHES` and threads, too. meter: energy, too.

    Returns:
        One record per contender, in their order: name and what is known of it; then `error`, or its facts (`serve.Work`),
        `answer` and `model` (a `latency.Timing` each, milliseconds), and `start` with `first` (nothing kept from an earlier
        start; absent for a contender that keeps nothing) and `again`: median seconds, largest peak_mib, n, range (seconds);
        {} for no starts. `uncapped`: why the limits' environment is not in force. With details, `stages` (median milliseconds
        by name), `peak_mib` and, from two starts on, `between_processes`: the standard deviation of the median answers of
        fresh processes, as a share of their mean. `energy`: see `Meter.per_call`, or the words for none. `throughput`:
        records of batch, threads, images_per_second, n; `throughput_stopped` says where it failed.
    """
    measured = {contender.name: _Measured(contender, image, threads, limits) for contender in contenders}
    starts = min(starts, runs)
    lines = _numbered(
        [
            f"{len(contenders)} contenders, {starts} times from a new process to the answer",
            *[line.format(runs=runs) for line in WORDS.values()],
            *["the stages of an answer"] * details,
            *[f"the energy of an answer, {meter.seconds:g} s each" if meter else ""] * (meter is not None),
            *["images per second over batch sizes and threads"] * throughput,
        ]
    )
    with ExitStack() as running:
        report(next(lines))
        step = _steps(bar)
        for turn in range(starts):
            for name in turned(list(measured), turn):
                measured[name].start_anew(work, min(AGAIN, runs) if details else 0)
            step(turn + 1, starts)
        for each in measured.values():
            each.process = each.start(work / "warm")
            if each.process is not None:
                running.callback(each.process.stop)
        times: dict[str, dict[Word, list[float]]] = {name: {} for name in measured}
        for word in WORDS:
            report(next(lines))
            calls = {name: partial(each.ask, word) for name, each in measured.items()}
            for name, taken in alternate(calls, runs, step=_steps(bar)).items():
                times[name][word] = taken
        if details:
            report(next(lines))
            _each(measured, lambda each: each.stage(min(STAGED, runs)), bar)
            for each in measured.values():
                each.more["peak_mib"] = each._try(lambda process: process.peak())
        if meter is not None:
            report(next(lines))
            _each(measured, lambda each: each.spend(meter), bar)
        if throughput:
            report(next(lines))
            _each(measured, lambda each: each.fill(threads), bar)
    return [each.record(times[name]) for name, each in measured.items()]


def _each(measured: Mapping[str, _Measured], what: Callable[[_Measured], None], bar: Bar) -> None:
    step = _steps(bar)
    for done, each in enumerate(measured.values()):
        what(each)
        step(done + 1, len(measured))


def _numbered(lines: Sequence[str]) -> Iterator[str]:
    return (f"{number}/{len(lines)}  {line}" for number, line in enumerate(lines, 1))


def _spread(medians: Sequence[float]) -> float | None:
    """The standard deviation as a share of the mean; None for fewer than two, or where one is no number."""
    n = len(medians)
    if n < 2 or not all(map(math.isfinite, medians)):
        return None
    mean = sum(medians) / n
    return math.sqrt(sum((each - mean) ** 2 for each in medians) / (n - 1)) / mean


def _steps(bar: Bar) -> Callable[[int, int], None]:
    """A stage's progress: its share done and the seconds it still takes."""
    start = time.perf_counter()
    return lambda done, of: bar(done / of, (time.perf_counter() - start) * (of - done) / done)
