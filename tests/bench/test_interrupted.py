"""Ctrl-C and SIGTERM, at any stage: one line, the exit code, no process and no file left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import ROOT
from .conftest import MakeBundle


def running(words: str) -> list[str]:
    """Command lines of processes that hold `words`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line:
            found.append(line)
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("stage", "number", "code"), [("1/4", signal.SIGINT, 130), ("2/4", signal.SIGTERM, 143)])
def test_a_stopped_bench_leaves_nothing(make_bundle: MakeBundle, tmp_path: Path, stage: str, number: int, code: int):
    bundle, temporary = make_bundle(variants=("onnx-fp32",)), tmp_path / "tmp"
    temporary.mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    words = [sys.executable, "-m", "edgefm", "bench", bundle, "--runs", "1000000", "-o", tmp_path / "out"]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)
    assert child.stderr is not None
    assert any(stage in line for line in child.stderr)
    stop = time.monotonic() + 20
    while len(running(str(bundle))) < 2 and time.monotonic() < stop:
        time.sleep(0.01)
    assert len(running(str(bundle))) == 2  # the command and its contender
    child.send_signal(number)
    _, told = child.communicate(timeout=60)
    assert child.returncode == code
    assert told.splitlines()[-1].startswith("edgefm: stopped; nothing was written")
    assert "Traceback" not in told
    assert running(str(bundle)) == []
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
