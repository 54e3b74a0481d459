"""The native engine in Python's process: the caller's rounding mode, and a fork that does not take the threads along."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

_native = pytest.importorskip("edgefm._native")
pytest.importorskip("timm")

from edgefm.runtime.preprocess import Preprocessor  # noqa: E402

from .vits import files, images, make  # noqa: E402


@contextmanager
def rounding_up() -> Iterator[None]:
    """This thread, and those that it makes, round towards plus infinity."""
    libm = ctypes.CDLL("libm.so.6")
    before = libm.fegetround()
    libm.fesetround(0x800)
    try:
        yield
    finally:
        assert libm.fegetround() == 0x800, "the caller's mode is left as it was"
        libm.fesetround(before)


@pytest.mark.skipif(platform.machine() != "x86_64" or not sys.platform.startswith("linux"), reason="glibc's constants")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_callers_rounding_mode_changes_no_bit(precision: str, threads: int) -> None:
    model = make("class token")
    prepared, written = images(model, 2), files(model, precision)
    picture = np.random.Generator(np.random.PCG64(0)).integers(0, 65536, (400, 500, 3), dtype=np.uint16)
    plain = _native.Encoder(*written, threads=threads, images=1)
    prepare = Preprocessor(model.preprocess, threads=threads, backend="native")
    answers, pixels = plain.run(prepared, heat=True), prepare(picture)
    with rounding_up():
        other = _native.Encoder(*written, threads=threads, images=1)
        found = [encoder.run(prepared, heat=True) for encoder in (plain, other)]
        again = prepare(picture)
    for each in found:
        assert all(rows.tobytes() == right.tobytes() for rows, right in zip(each, answers, strict=True))
    assert again.tobytes() == pixels.tobytes()


def in_a_child(work: Callable[[], bool]) -> bool | None:
    """What `work` returns in a fork of this process; None if it hangs or ends otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other threads may hold locks
        child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    for _ in range(1000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {0: True, 1: False}.get(os.waitstatus_to_exitcode(status))
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_child_process_several_threads_are_an_error_and_one_works() -> None:
    model = make("class token")
    prepared, written = images(model, 1), files(model, "int8")
    one, three = (_native.Encoder(*written, threads=threads, images=1) for threads in (1, 3))
    expected = three.run(prepared)[0].tobytes()

    def work() -> bool:
        nonlocal three
        try:
            three.run(prepared)
        except RuntimeError as error:
            del three  # does not wait for the threads, either
            return "forked" in str(error) and one.run(prepared)[0].tobytes() == expected
        return False

    assert in_a_child(work) is True
    assert three.run(prepared)[0].tobytes() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_attention_operators_team_is_made_anew_in_a_child_process() -> None:
    from edgefm.kernels.cpu import attention_int8

    q = torch.randn(1, 2, 40, 32, generator=torch.Generator().manual_seed(0))
    answers = [(torch.empty(1, 2, 40, 32), torch.empty(1, 2, 40), torch.empty(1, 2, 40)) for _ in range(2)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        attention_int8.forward(q, q, q, 0.2, *answers[0])

        def work() -> bool:
            attention_int8.forward(q, q, q, 0.2, *answers[1])
            return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(*answers, strict=True))

        assert in_a_child(work) is True
    finally:
        torch.set_num_threads(threads)
