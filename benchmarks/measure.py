"""How every benchmark here measures: contenders in turn, p50 and p95, peak memory of whole processes, the machine's facts.

Not a benchmark: it makes no claim and names no peer. The other scripts of this folder do `import measure`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).resolve().parent / "results"
sys.path.insert(0, str(RESULTS.parent.parent))  # the checkout, so that the benchmarks need no installed edgefm

from edgefm.bench import latency  # noqa: E402
from edgefm.bench import machine as facts  # noqa: E402
from edgefm.bench.latency import Timing, timing  # noqa: E402

LIBRARIES = ("edgefm", "numpy", "Pillow", "onnxruntime", "openvino", "torch", "timm", "nncf", "opencv-python-headless")
WATCH = facts.Watch()
SKIPPED = 77  # exit code of a script that cannot run here, and says why; automake's


class Process(NamedTuple):
    """One finished process: seconds to its first line of output, seconds to its end, peak resident MiB, what it printed, and
    processor seconds, all threads together."""

    first_line: float
    seconds: float
    peak_mib: float
    stdout: str
    processor: float


def machine() -> dict[str, Any]:
    """What ran and where: CPU, instruction sets, usable threads, memory, versions, load, and what others used of it."""
    return {**facts.machine(LIBRARIES), **WATCH.seen()}


def alternate(
    contenders: Mapping[str, Callable[[], object]], runs: int, warmup: int = 3, *, pause: float = 0.0
) -> dict[str, Timing]:
    """Call each contender, which does the whole work once, in turn (see `edgefm.bench.latency.alternate`).

    Args:
        pause: seconds before each call: threads of the one before may spin on for some milliseconds.
    """

    def rested(call: Callable[[], object]) -> Callable[[], float]:
        timed = latency.timed(call)

        def turn() -> float:
            time.sleep(pause)
            return timed()

        return turn

    calls = {name: rested(call) if pause else latency.timed(call) for name, call in contenders.items()}
    return {name: timing(taken) for name, taken in latency.alternate(calls, runs, warmup=warmup).items()}


def ratio(a: Timing, b: Timing) -> float:
    """How many times as long `a` takes as `b`, by their medians."""
    return round(a.p50 / b.p50, 3)


def process(command: Sequence[str], *, env: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)) -> Process:
    """Run a command to its end, from before `exec` to its exit; the peak is the kernel's own count for that process (`wait4`).

    Processes that it started and waited for count, too; the peak is that of the largest. `codes`: the exit codes of success.

    Linux counts the peak of the parent as the child's, until the child has grown beyond it: keep the calling script small.

    Raises:
        RuntimeError: it failed; the message holds the end of what it wrote to stderr.
    """
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert child.stdout is not None
    assert child.stderr is not None
    line = child.stdout.readline()
    first_line = time.perf_counter() - start
    stdout, stderr = line + child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    child.stderr.close()
    if child.returncode not in codes:
        raise RuntimeError(f"{' '.join(command[:4])} … ended with {child.returncode}: {stderr[-2000:]}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Process(first_line, seconds, usage.ru_maxrss / unit, stdout, usage.ru_utime + usage.ru_stime)


def save(name: str, payload: Mapping[str, Any]) -> Path:
    """Write `results/NAME.json` with the machine's facts inside; also print it."""
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"{name}.json"
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    text = json.dumps({"script": script, "machine": machine(), **payload}, indent=1, default=_plain)
    out.write_text(text + "\n")
    print(text)
    return out


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return value.name
    raise TypeError(f"{type(value).__name__} does not belong in a result")
