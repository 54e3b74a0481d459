"""A GPU benchmark's contenders, each tried once before any is timed: one that fails, or compiles too long, says why.

Not the timing: `gpu_measure.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

PATIENCE = 240  # seconds in which a contender must have compiled and run once
Call = Callable[[], Any]


def why(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """TimeoutError if the block takes longer, as a compiler may."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(
    calls: Mapping[str, Call], look: Callable[[Any], Any] = lambda answer: None
) -> tuple[dict[str, Call], dict[str, Any], dict[str, str]]:
    """Each call once, which may compile: those that run, what `look` says of their answers, and why the others do not run."""
    able: dict[str, Call] = {}
    looked: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, call in calls.items():
        try:
            with within(PATIENCE):
                looked[name] = look(call())
                if torch.cuda.is_available():
                    torch.cuda.synchronize()  # an error of its kernels is its own, not the next one's
            able[name] = call
        except Exception as error:
            failed[name] = why(error)
        if name in failed:
            looked.pop(name, None)
            torch.cuda.empty_cache()
    return able, looked, failed
