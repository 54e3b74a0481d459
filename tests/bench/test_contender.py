"""A contender's process: what it says, how it can end, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefm.bench.contender import Started
from edgefm.errors import InputError

from ..conftest import ROOT
from .conftest import fake


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float = 20) -> bool:
    stop = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < stop:
        time.sleep(0.02)
    return not alive(pid)


def test_it_answers_and_times_itself_whatever_it_prints(image: Path):
    with Started(fake("steady", answer=30, model=1), image=image, threads=1) as started:
        assert started.seconds > 0.03
        assert 5 < started.peak_mib < 1000
        assert (started.facts["precision"], started.facts["threads"], started.facts["image"]) == ("fp32", 1, str(image))
        assert 30 <= started.ask("answer") < 30_000
        assert started.ask("model") >= 1
        pid = started._child.pid
    assert gone(pid, 0)


def test_an_expected_error_comes_as_its_line(image: Path):
    with pytest.raises(InputError, match=r"^the weights are missing\. Download them again\.$"):
        Started(fake("refuses"), image=image, threads=1)


def test_a_bug_comes_as_the_last_line_of_its_traceback(image: Path):
    with pytest.raises(InputError, match=r"its process ended with 1 \(ZeroDivisionError: never mind\)"):
        Started(fake("breaks"), image=image, threads=1)


def test_a_process_that_is_killed_before_it_answers_says_how(image: Path):
    with pytest.raises(InputError, match="its process was ended by SIGKILL, as the system does when memory runs out"):
        Started(fake("dies", after=0), image=image, threads=1)


def test_a_process_that_crashes_later_says_how(image: Path):
    with Started(fake("dies", after=2, how=signal.SIGSEGV), image=image, threads=1) as started:
        started.ask("answer")
        for _ in range(2):  # the second time nobody listens any more
            with pytest.raises(InputError, match="its process was ended by SIGSEGV"):
                started.ask("answer")


def test_it_sees_its_own_cache_and_torchs_own_default(image: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.setenv("XDG_CACHE_HOME", "/the/users")
    with Started(fake("environment"), image=image, threads=1, cache=tmp_path) as started:
        assert (started.facts["cache"], started.facts["spin"]) == (str(tmp_path), None)
    with Started(fake("environment"), image=image, threads=1) as started:
        assert started.facts["cache"] == "/the/users"


def test_what_lies_in_the_users_folder_is_not_imported(image: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('not numpy')")
    monkeypatch.chdir(tmp_path)
    with Started(fake("environment"), image=image, threads=1) as started:
        assert started.facts["folder"] == str(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_none_outlives_a_parent_that_is_killed(image: Path):
    code = f"""
import sys, time; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from edgefm.bench.contender import Started
from tests.bench.conftest import fake
print(Started(fake("steady"), image=Path({str(image)!r}), threads=1)._child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    assert os.getpgid(child) != os.getpgid(parent.pid)  # so a terminal's Ctrl-C reaches the parent alone
    parent.kill()
    parent.communicate()
    assert gone(child)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell that starts us in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_while_the_process_is_being_started_leaves_none(when: str, image: Path, monkeypatch: pytest.MonkeyPatch):
    children: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *words: object, **options: object) -> None:
            if when == "before":
                signal.raise_signal(signal.SIGINT)
            super().__init__(*words, **options)
            children.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Started(fake("steady", answer=30, model=1), image=image, threads=1)
    assert children[0].returncode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_cannot_be_started_says_so_itself(image: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(FileNotFoundError, match="/no/python"):
        Started(fake("steady", answer=30, model=1), image=image, threads=1)
