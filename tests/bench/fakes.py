"""What contenders of the tests do in their own processes: answer, print, break, die."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edgefm.bench.serve import Work
from edgefm.errors import InputError


def steady(*, image: str, threads: int, answer: float = 0.0, model: float = 0.0, **facts: Any) -> Work:
    """Sleeps for `answer` and `model` milliseconds, and prints meanwhile."""

    def rest(milliseconds: float) -> None:
        print('{"ms": -1.0}', flush=True)
        time.sleep(milliseconds / 1e3)

    facts = {"engine": "fake", "version": "fake-1", "precision": "fp32", "threads": threads, "image": image, **facts}
    return Work(lambda: rest(answer), lambda: rest(model), lambda: facts)


def environment(**_: Any) -> Work:
    """Tells what it was given by its environment."""
    facts = {"cache": os.environ.get("XDG_CACHE_HOME"), "spin": os.environ.get("GOMP_SPINCOUNT"), "folder": os.getcwd()}
    return Work(lambda: None, lambda: None, lambda: facts)


def remembers(**_: Any) -> Work:
    """Leaves a file in the cache folder, and is slower where there is none yet."""
    kept = Path(os.environ["XDG_CACHE_HOME"], "kept")
    if not kept.exists():
        time.sleep(0.3)
    kept.parent.mkdir(exist_ok=True)
    kept.touch()
    return steady(image="", threads=1)


def refuses(**_: Any) -> Work:
    raise InputError("the weights are missing", do="download them again")


def complains(*, image: str, **_: Any) -> Work:
    raise InputError(f"{image} cannot be read by {Path(image).parent / 'engine.so'}")


def breaks(**_: Any) -> Work:
    print("a warning before", file=sys.stderr)
    raise ZeroDivisionError("never mind")


def dies(*, after: int, how: int = signal.SIGKILL, **_: Any) -> Work:
    """Answers `after` times, then kills itself."""
    left = [after]

    def answer() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), how)
            time.sleep(10)

    return Work(answer, answer, lambda: {"precision": "fp32"})


def limited(*, take_mib: int, **_: Any) -> Work:
    """Tells what it may use, after taking some memory."""
    taken = bytearray(take_mib * 2**20)
    facts = {"cpus": sorted(os.sched_getaffinity(0)), "isa": os.environ.get("OV_CPU_MAX_ISA"), "taken": len(taken)}
    return Work(lambda: None, lambda: None, lambda: facts)


def shy(**_: Any) -> Work:
    """Does not start under a cap."""
    if "OV_CPU_MAX_ISA" in os.environ:
        raise InputError("no primitive for that")
    return steady(image="", threads=1)


def staged(*, image: str, threads: int, fails_at: int = 99) -> Work:
    """Four stages of 1, 2, 3 and 4 milliseconds, each of which wants what the one before gave; and batches, up to a size."""

    def stage(number: int) -> Any:
        def run(value: Any) -> int:
            assert value == (None if number == 0 else number - 1)
            time.sleep((number + 1) / 1e3)
            return number

        return run

    def batch(size: int, many: int) -> Any:
        if size >= fails_at:
            raise InputError("no memory for that")
        return lambda: time.sleep(size / many / 1e3)

    facts = {"engine": "fake", "version": "fake-1", "precision": "fp32", "threads": threads}
    return Work(lambda: None, lambda: None, lambda: facts, tuple(map(stage, range(4))), batch)
