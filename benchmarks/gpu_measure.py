"""How every GPU benchmark here measures: contenders in turn by CUDA events, the second-level cache overwritten before each.

Not a benchmark: it makes no claim and names no peer. `measure.py` does it for processors. Without a card each call runs once,
to see that it runs: a dry run, whose times mean nothing and which reaches no goal.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import measure  # noqa: F401  puts the checkout on the path
import torch
from gpu_contenders import Call, tried, why
from gpu_profile import kernels

from edgefm.bench.latency import Timing, timed, timing

CACHE = 256 << 20  # bytes written before each call: five times the largest second-level cache
SIDE = 8192  # of the square product that measures the card's rate
GRACE = 60  # seconds after a run's minutes in which rows that were measured may still say which kernels ran
Found = TypeVar("Found")


class Clock:
    """Milliseconds of calls that take turns: `runs` rounds of all, or as many as fit into `seconds`.

    pause: ticks of the card's clock that it waits before each call, so that launching is not in the time.
    """

    def __init__(self, device: str, runs: int = 1, *, seconds: float = 0.0, pause: int = 0) -> None:
        self.card, self.pause = device == "cuda", pause
        if self.card and not torch.cuda.is_available():
            sys.exit("there is no NVIDIA card here: --device cpu is a dry run")
        self.runs, self.seconds = (runs, seconds) if self.card else (1, 0.0)
        self.cache = torch.empty(CACHE, dtype=torch.uint8, device=device) if self.card else None

    def times(self, calls: Mapping[str, Call]) -> dict[str, Timing]:
        """Each call's time as Python launches it; three runs of each come before."""
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            for _ in range(3 if self.card else 0):
                call()
        rounds, end = 0, time.perf_counter() + self.seconds
        while calls and (rounds < self.runs or time.perf_counter() < end):
            for name, call in calls.items():
                taken[name].append(self._once(call))
            rounds += 1
        return {name: timing(each) for name, each in taken.items()}

    def alone(self, calls: Mapping[str, Call]) -> tuple[dict[str, Timing], dict[str, str]]:
        """The card's own time, each call replayed from a CUDA graph; and why a call cannot be captured in one."""
        graphs: dict[str, Call] = {}
        refused: dict[str, str] = {}
        for name, call in calls.items() if self.card else ():
            try:
                graphs[name] = _captured(call)
            except Exception as error:
                refused[name] = why(error)
                _released()
        return self.times(graphs), refused

    def _once(self, call: Call) -> float:
        if self.cache is None:
            return timed(call)()
        self.cache.zero_()
        if self.pause:
            torch.cuda._sleep(self.pause)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)


def _captured(call: Call) -> Call:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _released() -> None:
    """After a capture that failed: torch's current stream is still the captured one, and its generator waits for the end."""
    torch.cuda.set_stream(torch.cuda.default_stream())
    torch.cuda.synchronize()
    with suppress(Exception):  # not public, and no row shall be lost by it
        here = torch.cuda.default_generators[torch.cuda.current_device()]
        here.graphsafe_set_state(torch.Generator("cuda").graphsafe_get_state())


class Rates(NamedTuple):
    """What this card does, measured in the same run: bytes/s of a copy, read and written, operations/s of a matrix product."""

    bytes: float
    operations: float


def rates(clock: Clock, dtype: torch.dtype = torch.bfloat16) -> Rates | None:
    """The card's rates, the product in `dtype`; None without a card."""
    if not clock.card:
        return None
    source = torch.empty(1 << 29, dtype=torch.uint8, device="cuda")
    target, square = torch.empty_like(source), torch.randn(SIDE, SIDE, device="cuda", dtype=dtype)
    took = clock.times({"copy": lambda: target.copy_(source), "product": lambda: square @ square})
    return Rates(2e3 * source.nbytes / took["copy"].p50, 2e3 * SIDE**3 / took["product"].p50)


def options(document: str, quick: str) -> argparse.ArgumentParser:
    """The options that all scripts share; `quick`: what is left out."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run on tiny shapes")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="start no row after these; profiling may take one more"
    )
    parser.add_argument("--out", type=Path, help="a JSON file, written after each row")
    return parser


class Run:
    """One run of a script: its clock, the card's rates, until when, what was reached, what failed or had no time.

    Written after each row: time on a card may end at any moment. Which kernels ran is asked when all rows are measured.
    """

    def __init__(self, asked: argparse.Namespace, clock: Clock, dtype: torch.dtype = torch.bfloat16) -> None:
        self.card, self.clock, self.out = asked.device == "cuda", clock, asked.out
        self.end = time.monotonic() + 60 * asked.minutes
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
        self.rate = rates(clock, dtype)
        self.goals: list[dict[str, Any]] = []
        self.not_measured: list[str] = []
        self.failed: dict[str, str] = {}
        self.later: list[tuple[str, dict[str, Any], dict[str, Call]]] = []
        self.rows: dict[str, Any] = {}
        self.facts: dict[str, Any] = {
            "script": f"benchmarks/{Path(sys.argv[0]).name}",
            "options": [f"--{name.replace('_', '-')}" for name, value in vars(asked).items() if value is True],
            **_machine(self.card),
            "rates": None if self.rate is None else self.rate._asdict(),
        }

    def on(self, row: str) -> bool:
        """Whether there is time for `row`; if not, it is noted."""
        if time.monotonic() < self.end:
            return True
        self.not_measured.append(row)
        return False

    def row(self, name: str, work: Callable[[], Found]) -> Found | None:
        """What `work` finds; None if there is no time, or if it fails, which is noted: the next row comes all the same."""
        if not self.on(name):
            return None
        try:
            if self.card:
                torch.compiler.reset()  # else the last row's shapes make the next one's dynamic
            return work()
        except Exception as error:
            traceback.print_exc()
            self.failed[name] = why(error)
            return None
        finally:
            if self.card:
                torch.cuda.empty_cache()

    def tried(
        self, row: str, calls: Mapping[str, Call], look: Callable[[Any], Any] = lambda answer: None
    ) -> tuple[dict[str, Call], dict[str, Any], dict[str, str]]:
        """`gpu_contenders.tried`; where EdgeFM itself does not run, the row has failed."""
        able, looked, failed = tried(calls, look)
        for name, reason in failed.items():
            print(f"  {name} failed: {reason}")
            if name.lower().startswith("edgefm"):
                self.failed[f"{row}, {name}"] = reason
        return able, looked, failed

    def profile(self, name: str, row: dict[str, Any], calls: Mapping[str, Call]) -> None:
        """Let `finish` add to this row which kernels these calls launch."""
        self.later.append((name, row, dict(calls)))

    def finish(self) -> int:
        """Add `kernels` to the rows that `profile` named, empty without a card; write all. The exit code: 1 if a row failed."""
        for name, row, calls in self.later:
            if self.card and time.monotonic() > self.end + GRACE:
                self.not_measured.append(f"kernels of {name}")
                continue
            if self.card:
                torch.compiler.reset()
            row["kernels"] = {each: kernels(call) for each, call in calls.items()} if self.card else {}
            for each, found in row["kernels"].items():
                print(f"\n{name}, {each}: {json.dumps(found, indent=1)}", flush=True)
            self.save()
        self.save()
        for name, reason in self.failed.items():
            print(f"{name}: {reason}", file=sys.stderr)
        return int(bool(self.failed))

    def goal(
        self,
        row: str,
        over: str,
        at_least: float,
        called: Mapping[str, Timing],
        alone: Mapping[str, Timing],
        ours: str = "EdgeFM",
    ) -> None:
        """Note how many times as fast as the peer `over` EdgeFM is, as called and on the card alone, where both were measured.

        It is met if each ratio reaches `at_least`; None where nothing was measured."""
        pairs = {"as called": called, "on the card": alone} if self.card else {}
        ratios = {kind: times[over].p50 / times[ours].p50 for kind, times in pairs.items() if over in times and ours in times}
        met = all(ratio >= at_least for ratio in ratios.values()) if ratios else None
        rounded = {kind: round(ratio, 3) for kind, ratio in ratios.items()}
        self.goals.append({"row": row, "over": over, "at_least": at_least, "ratios": rounded, "met": met})

    def roofline(self, moved: float, operations: float, ours: Timing | None) -> dict[str, float]:
        """Bytes that must move and operations that must be done; on a card the milliseconds that the slower of the two takes
        at its rates, and the share of that which `ours` reaches. Williams et al. 2009."""
        found: dict[str, float] = {"bytes": moved, "operations": operations}
        if self.rate is None:
            return found
        found["ms"] = float(f"{1e3 * max(moved / self.rate.bytes, operations / self.rate.operations):.4g}")
        return found if ours is None else found | {"share": round(found["ms"] / ours.p50, 4)}

    def save(self, **rows: Any) -> None:
        """Write the file, with the rows so far; no file while there is none."""
        self.rows |= rows
        if self.out is not None and self.rows:
            rest = {"goals": self.goals, "not_measured": self.not_measured, "failed": self.failed}
            partial = self.out.with_suffix(".partial")
            partial.write_text(json.dumps({**self.facts, **self.rows, **rest}, indent=1) + "\n")
            partial.replace(self.out)


def _machine(card: bool) -> dict[str, Any]:
    """The card, the versions of what computes, and the blocks that `edgefm doctor --tune` kept for this card, if it was run."""
    versions: dict[str, Any] = {"torch": torch.__version__}
    for name in ("triton", "bitsandbytes", "peft"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    if not card:
        return {"device": "none: a dry run on the processor", **versions}
    major, minor = torch.cuda.get_device_capability()
    facts = {"device": torch.cuda.get_device_name(), "compute_capability": f"{major}.{minor}", "cuda": torch.version.cuda}
    return {**facts, **versions, "tuned": _tuned()}


def _tuned() -> dict[str, tuple[int, ...]]:
    try:
        from edgefm.kernels.triton.measured import kept
    except ImportError:  # without Triton
        return {}
    return kept(torch.cuda.get_device_name())
