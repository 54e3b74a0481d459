"""A disk that is full and a folder that is read-only: exit code 2, one line, nothing half made under the good name."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys

import pytest

from .conftest import DATA, Command

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def small_files() -> None:
    """No file may grow past 100,000 bytes: what a full disk looks like to a process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def bound_by_permissions() -> None:
    """Root passes over permission bits; without these two capabilities it does not, from the next exec on."""
    if os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def line_of(ended, code: int = 2) -> str:
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("distill", "-t", "student", "-s", "test_efficientnet", "-d", DATA, "-o", "out", "--set", "distill.epochs=1"),
        ("quantize", "student", "-d", DATA, "-o", "out.efm"),
        ("export", "student", "-o", "out.efm"),
        ("export", "student", "--standalone", "onnx", "-o", "out"),
        ("slim", "model.efm", "--keep", "onnx-int8", "-o", "out.efm"),
    ],
    ids=lambda words: words[0] + ("-standalone" if "--standalone" in words else ""),
)
def test_a_full_disk_ends_in_one_line_and_no_output(copied: Command, words):
    line = line_of(copied(*words, preexec_fn=small_files))
    assert "File too large" in line or "cannot be written" in line
    assert not [path.name for path in copied.folder.glob("out*") if path.suffix != ".partial"]


@pytest.fixture
def locked(copied: Command) -> Command:
    """The road with a read-only folder `locked` in it."""
    folder = copied.folder / "locked"
    folder.mkdir(mode=0o555)
    probe = [sys.executable, "-c", f"import os; print(os.access({str(folder)!r}, os.W_OK))"]
    said = subprocess.run(probe, capture_output=True, text=True, check=True, preexec_fn=bound_by_permissions).stdout
    if said != "False\n":
        pytest.skip("this user passes over permissions and cannot give that up")
    yield copied
    folder.chmod(0o755)


@pytest.mark.parametrize(
    "words",
    [
        ("distill", "-t", "student", "-s", "test_efficientnet", "-d", DATA, "-o", "locked/out", "--set", "distill.epochs=1"),
        ("quantize", "student", "-d", DATA, "-o", "locked/out.efm"),
        ("export", "student", "-o", "locked/out.efm"),
        ("slim", "model.efm", "--keep", "onnx-int8", "-o", "locked/out.efm"),
        ("quickstart", "--data", DATA, "-o", "locked/out"),
    ],
    ids=lambda words: words[0],
)
def test_a_read_only_folder_is_named_before_the_work_begins(locked: Command, words):
    line = line_of(locked(*words, preexec_fn=bound_by_permissions))
    assert "locked is read-only" in line


def test_run_needs_no_writable_cache(locked: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(locked.folder / "locked"))
    ended = locked.done("run", "model.efm", "images/0.png", preexec_fn=bound_by_permissions)
    assert "no writable cache" in ended.stderr
