"""kill -9 in the verbs without --resume: under the good name is nothing or a whole file, and the same command works again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from edgefm.bundle import open_bundle

from .conftest import DATA, Command

# The worst moment: everything is written, and nothing has its name yet.
CODE = """
import fnmatch, os, signal, sys
def die(event, details):
    if event == "os.rename" and fnmatch.fnmatch(os.fspath(details[1]), {name!r}):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
from edgefm.__main__ import main
sys.exit(main())
"""
QUICK = ("quickstart", "--data", DATA, "-o", "out", "--set", "distill.epochs=1", "--set", "distill.views=1")


@pytest.fixture
def alone(copied: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command with one variant in `small.efm`, and a cache and a folder for temporary files of its own."""
    for variable, name in (("XDG_CACHE_HOME", "cache"), ("TMPDIR", "tmp")):
        (copied.folder / name).mkdir()
        monkeypatch.setenv(variable, str(copied.folder / name))
    copied.done("slim", "model.efm", "--keep", "onnx-int8", "-o", "small.efm")
    return copied


@pytest.mark.parametrize(
    ("words", "out", "name"),
    [
        (("slim", "model.efm", "--keep", "onnx-int8", "-o", "out.efm"), "out.efm", "*out.efm"),
        pytest.param(("export", "student", "-o", "out.efm"), "out.efm", "*out.efm", marks=pytest.mark.slow),
        pytest.param(("export", "student", "--standalone", "onnx", "-o", "out"), "out", "*out", marks=pytest.mark.slow),
        (("verify", "small.efm", "-d", DATA, "-o", "out"), "out/report.json", "*report.json"),
        (("bench", "small.efm", "--runs", "1", "-o", "out"), "out/bench.json", "*bench.json"),
        (("run", "model.efm", "images/0.png", "--json"), None, "*/choices/*"),
    ],
    ids=lambda value: "-".join(value[:3:2]) if isinstance(value, tuple) else "",
)
def test_killed_as_it_gives_a_file_its_name_a_verb_leaves_none_and_works_again(alone: Command, words, out, name):
    usual, alone.words = alone.words, [sys.executable, "-c", CODE.format(name=name)]
    ended = alone(*words)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert out is None or not (alone.folder / out).exists()
    for left in alone.folder.rglob("*.partial"):
        if left.is_file():  # a kill within the writing leaves half of it
            os.truncate(left, left.stat().st_size // 2)
    alone.words = usual
    again = alone.done(*words)
    if out is None:
        assert json.loads(again.stdout)["label"] in ("clear", "opacity")
        assert "timed now, and remembered" not in alone.done(*words).stderr
    elif out.endswith(".efm"):
        with open_bundle(alone.folder / out) as bundle:
            assert bundle.manifest.variants
    elif out.endswith(".json"):
        assert json.loads((alone.folder / out).read_bytes())
    else:
        assert list((alone.folder / out).glob("*.onnx"))
    if out is not None:
        assert not list(alone.folder.rglob("*.partial"))


def test_lines_that_a_killed_run_has_answered_are_whole(copied: Command):
    child = copied.start("run", "model.efm", *["images"] * 400, "--json")
    lines = [child.stdout.readline() for _ in range(3)]
    child.kill()
    rest, _ = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    whole = [line for line in [*lines, *rest.splitlines(keepends=True)] if line.endswith("\n")]
    assert all(json.loads(line)["label"] for line in whole)
    copied.done("run", "model.efm", "images/0.png")


def lives(process: int) -> bool:
    """Whether there is such a process that has not ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_the_process_of_a_killed_bench_ends_by_itself(alone: Command):
    child = alone.start("bench", "small.efm", "--runs", "1000000", "-o", "out")
    assert any("2/4" in line for line in child.stderr)  # its process has started, and waits for words
    tasks = Path(f"/proc/{child.pid}/task").iterdir()
    workers = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    assert workers
    assert all(map(lives, workers))
    child.kill()
    child.wait(timeout=60)
    stop = time.monotonic() + 30
    while any(map(lives, workers)) and time.monotonic() < stop:
        time.sleep(0.05)
    assert not any(map(lives, workers))
    assert not (alone.folder / "out").exists() or not list((alone.folder / "out").iterdir())


@pytest.mark.slow
def test_a_killed_quickstart_leaves_no_folder_and_starts_again_over_what_is_left(edgefm: Command):
    code, _ = edgefm.interrupted(*QUICK, after="2/5", number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (edgefm.folder / "out").exists()
    assert (edgefm.folder / "out.partial" / "teacher").exists()
    assert edgefm.interrupted(*QUICK, after="2/5", number=signal.SIGKILL)[0] == -signal.SIGKILL  # the teacher is made anew
