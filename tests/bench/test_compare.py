"""The order of things, with contenders that are no processes; and one comparison with real ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import pytest

from edgefm.bench import compare as room
from edgefm.bench import latency
from edgefm.bench.compare import compare
from edgefm.bench.contender import Contender, Limits
from edgefm.errors import InputError

from .conftest import fake


class Fake:
    """Stands in for `Started`: writes down what happens to it."""

    seen: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, contender: Contender, *, image: Path, threads: int, cache: Path | None, limits: Limits) -> None:
        self.name, self.cache = contender.name, cache
        self.left = contender.settings.get("after", math.inf)
        Fake.seen.append((self.name, "start" if cache is None else f"start, {'kept' if self._kept() else 'empty'}"))
        if self.left == 0:
            raise InputError("it does not start")
        self.seconds, self.peak_mib, self.facts = 0.5, 10.0, {"precision": "fp32"}

    def _kept(self) -> bool:
        assert self.cache is not None
        self.cache.mkdir(exist_ok=True)
        kept = (self.cache / self.name).exists()
        (self.cache / self.name).touch()
        return kept

    def ask(self, word: str) -> float:
        self.left -= 1
        Fake.seen.append((self.name, word))
        if self.left <= 0:
            raise InputError("it died")
        return 2.0 if word == "answer" else 1.0

    def stop(self) -> None:
        Fake.seen.append((self.name, "stop"))


@pytest.fixture
def measure(monkeypatch, tmp_path: Path):
    """measure(contenders, runs) with `Fake` processes."""
    monkeypatch.setattr(latency, "PAUSE", 0)
    monkeypatch.setattr(room, "Started", Fake)
    monkeypatch.setattr(Fake, "seen", [])
    return lambda contenders, runs, **options: run(contenders, runs, tmp_path, **options)


def run(contenders: list[Contender], runs: int, work: Path, **options):
    settings = {"report": lambda line: None, "bar": lambda share, left: None, **options}
    return compare(contenders, image=work / "image.png", runs=runs, threads=1, work=work, **settings)


def words(kind: str) -> str:
    return "".join(name for name, what in Fake.seen if what == kind)


def test_contenders_take_turns_in_an_order_that_turns(measure):
    measure([fake("", name) for name in "abc"], 6)
    assert words("start") == "abcbcacababcbca" + "abc"  # five starts each, then the one that stays
    assert words("answer") == words("model") == "abcbcacab" * 3  # three rounds of warm-up


def test_a_start_finds_nothing_kept_and_the_next_one_what_it_left(measure):
    found = measure([fake("", "a", keeps=True), fake("", "b")], 2)
    starts = [what for name, what in Fake.seen if name == "a" and what.startswith("start")]
    assert starts == ["start, empty", "start, kept"] * 2 + ["start, empty"]
    assert found[0]["start"] == {
        kind: {"seconds": 0.5, "peak_mib": 10.0, "n": 2, "range": [0.5, 0.5]} for kind in ("first", "again")
    }
    assert found[1]["start"].keys() == {"again"}


def test_one_run_is_one_start_and_no_interval(measure):
    (found,) = measure([fake("", "a")], 1)
    assert found["start"]["again"]["n"] == 1
    assert found["answer"] == {"p50": 2.0, "p95": 2.0, "n": 1, "interval": None, "p99": None, "p95_interval": None}
    assert found["model"]["p50"] == 1.0


def test_without_starts_only_the_process_that_stays_is_started(measure):
    (found,) = measure([fake("", "a", keeps=True)], 2, starts=0)
    assert words("start, empty") == "a"
    assert (found["start"], found["answer"]["n"]) == ({}, 2)


def test_one_that_does_not_start_is_named_and_the_others_are_measured(measure):
    bad, good = measure([fake("", "bad", after=0), fake("", "good")], 3)
    assert bad == {"name": "bad", "error": "it does not start"}
    assert good["answer"]["n"] == 3
    assert words("start").count("bad") == 1  # it is not tried again


def test_one_that_dies_in_the_middle_is_named_and_the_others_are_measured(measure):
    bad, good = measure([fake("", "bad", after=4), fake("", "good")], 6)
    assert bad == {"name": "bad", "error": "it died"}
    assert (good["answer"]["n"], good["model"]["n"]) == (6, 6)
    assert words("answer").count("bad") == 4


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, InputError("a bug")])
def test_whatever_happens_no_process_is_left(measure, stopped):
    def report(line: str) -> None:
        if line.startswith("3/3"):
            raise stopped

    with pytest.raises((KeyboardInterrupt, InputError)):
        measure([fake("", "a"), fake("", "b")], 2, report=report)
    assert len([1 for _, what in Fake.seen if what == "stop"]) == len([1 for _, what in Fake.seen if what.startswith("start")])


def test_progress_rises_to_the_end_of_each_stage(measure):
    shares: list[float] = []
    measure([fake("", "a")], 2, bar=lambda share, left: shares.append(share))
    assert [share for share in shares if share == 1.0] == [1.0] * 3
    assert shares[0] == 0.5


def test_real_processes_keep_times_and_caches_apart(tmp_path: Path):
    slow, quick = fake("steady", "slow", answer=40, model=5), fake("remembers", "quick", keeps=True)
    first, second = run([slow, quick], 2, tmp_path)
    assert first["answer"]["p50"] > 40
    assert first["answer"]["p50"] > second["answer"]["p50"]
    assert second["start"]["first"]["seconds"] > 0.3
    assert second["precision"] == "fp32"


def test_details_are_stages_peak_memory_and_what_processes_differ_by(tmp_path: Path):
    staged, plain = run([fake("staged", "staged"), fake("steady", "plain", answer=2)], 3, tmp_path, details=True)
    assert list(staged["stages"]) == ["decode", "preprocess", "model", "postprocess"]
    assert all(taken >= floor for floor, taken in zip((1, 2, 3, 4), staged["stages"].values()))
    assert staged["peak_mib"] > 5
    assert staged["between_processes"] >= 0
    assert "stages" not in plain  # it has none
    assert plain["between_processes"] < 3


def test_throughput_is_over_batches_and_threads_and_its_failure_fails_nothing_else(tmp_path: Path, monkeypatch):
    from edgefm.bench import serve

    monkeypatch.setattr(serve, "BATCH_SECONDS", 0)
    good, part, none = run(
        [fake("staged", "good"), fake("staged", "part", fails_at=4), fake("steady", "none")], 1, tmp_path, throughput=True
    )
    assert [(each["batch"], each["threads"]) for each in good["throughput"]] == [(1, 1), (4, 1), (16, 1)]
    assert all(each["images_per_second"] <= 1000 and each["n"] >= 3 for each in good["throughput"])
    assert [each["batch"] for each in part["throughput"]] == [1]
    assert part["throughput_stopped"] == "4 images on 1 threads: no memory for that"
    assert part["answer"]["n"] == 1
    assert none["throughput"] == []


def test_energy_is_a_number_or_the_words_that_there_is_none(measure):
    class Meter:
        seconds = 0.1

        def per_call(self, call):
            call()
            return {"joules": 1.5, "watts": 3.0, "n": 1}

    (found,) = measure([fake("", "a")], 2, meter=Meter())
    assert found["energy"] == {"joules": 1.5, "watts": 3.0, "n": 1}
    Meter.per_call = lambda self, call: None
    (found,) = measure([fake("", "a")], 2, meter=Meter())
    assert found["energy"] == "not readable here"
