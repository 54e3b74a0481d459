"""A contender and its process: one each, so that memory, threads and crashes are its own.

Not the work in that process (`serve.py`) and not the order of the contenders (`compare.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from ..errors import InputError

CODE = """import os, sys
sys.path[:] = {path!r}
cpus, memory = {cpus!r}, {memory!r}
if cpus:
    os.sched_setaffinity(0, cpus)
if memory:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
from edgefm.bench.serve import serve
from {module} import {function}
serve({function})"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a contender's process may use; None is what this process may use.

    Attributes:
        cpus: numbers of processors (Linux). memory: bytes of its own, without those of files (`RLIMIT_DATA`, Linux).
        environment: variables that take the place of ours.
    """

    cpus: tuple[int, ...] | None = None
    memory: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


NO_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that answers.

    Attributes:
        name: for people.
        load: "MODULE:FUNCTION" that makes the `serve.Work` in the new process.
        settings: that function's arguments, as JSON can hold them, beside `image` and `threads`.
        known: what the result says of it, whatever is measured.
        keeps: whether it leaves something in the user's cache folder that makes the next start faster.
    """

    name: str
    load: str
    settings: Mapping[str, Any]
    known: Mapping[str, Any] = field(default_factory=dict)
    keeps: bool = False


class Started:
    """A new process of a contender, which has answered once. A context manager: at its end the process is gone.

    Attributes:
        seconds: from before the process was started to its first answer.
        peak_mib: the most memory it had used by then.
        facts: see `serve.Work`.

    Args:
        cache: stands in for the user's cache folder; None leaves that as it is.
        image: what it answers for. threads: how many it may use. limits: what else its process may use.

    Raises:
        InputError: it cannot answer; says why in one line.
    """

    def __init__(
        self, contender: Contender, *, image: Path, threads: int, cache: Path | None = None, limits: Limits = NO_LIMITS
    ) -> None:
        module, _, function = contender.load.partition(":")
        code = CODE.format(path=sys.path, module=module, function=function, cpus=limits.cpus, memory=limits.memory)
        settings = {**contender.settings, "image": str(image), "threads": threads}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        start = time.perf_counter()
        try:
            with _signals_wait():  # one that came within Popen, after the fork, would leave a child that nobody knows
                self._child = subprocess.Popen(
                    [sys.executable, "-c", code, msgspec.json.encode(settings).decode()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    env=_environment(cache) | dict(limits.environment),
                    process_group=0,  # Ctrl-C reaches us alone, and we end it
                )
            self.peak_mib = float(self._reply()["peak_mib"])
            self.seconds = time.perf_counter() - start
            self.facts = self._reply()
        except BaseException:
            self.stop()
            raise

    def ask(self, word: Literal["answer", "model"]) -> float:
        """Milliseconds of one run, as the process itself measured them. Raises `InputError` if it fails."""
        return float(self._asked(word)["ms"])

    def stages(self) -> dict[str, float]:
        """Milliseconds of each stage of one answer (see `serve.STAGES`), one after the other; {} if it has no stages."""
        return {str(name): float(taken) for name, taken in self._asked("stages").items()}

    def batches(self, size: int, threads: int) -> list[float] | None:
        """Milliseconds of runs of `size` images each, loaded anew for that; None if it cannot."""
        found: list[float] | None = self._asked(f"batch {size} {threads}")["ms"]
        return found

    def peak(self) -> float:
        """The most memory that it has used so far, MiB."""
        return float(self._asked("peak")["peak_mib"])

    def _asked(self, word: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(word.encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._reply()

    def stop(self) -> None:
        """End the process, whatever it does; there is none where it could not be started."""
        child, streams = getattr(self, "_child", None), [self._said]
        if child is not None:
            child.kill()
            child.wait()
            streams += [child.stdin, child.stdout]
        for stream in streams:
            try:
                stream.close()
            except BrokenPipeError:  # a word that it did not read
                continue

    def __enter__(self) -> Started:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _reply(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        reply: dict[str, Any] = msgspec.json.decode(line)
        if "error" in reply:
            raise InputError(reply["error"])
        return reply

    def _died(self) -> InputError:
        """What is to say about a process that ended or closed its stdout."""
        try:
            code = self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return InputError("its process does not speak any more")
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        last = f" ({lines[-1][:200].strip()})" if lines else ""
        if code >= 0:
            return InputError(f"its process ended with {code}{last}")
        why = ", as the system does when memory runs out" if code == -signal.SIGKILL else last
        return InputError(f"its process was ended by {signal.Signals(-code).name}{why}")


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Ctrl-C and SIGTERM come at the end of the block. In other threads than the main one they never come at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda which, _: came.append(which)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for which in came:
            signal.raise_signal(which)


def _environment(cache: Path | None) -> dict[str, str]:
    found = dict(os.environ)
    # Our training sets it. A rival runs with torch's own default: a DenseNet-121 takes 35 ms, and 57 with that setting.
    found.pop("GOMP_SPINCOUNT", None)
    if cache is not None:
        found["XDG_CACHE_HOME"] = str(cache)
    return found
