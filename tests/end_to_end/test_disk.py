"""A disk that is full and a folder that is read-only: exit code 2, one line, nothing half made under the good name."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import pytest

from .conftest import DATA, Command

NOBODY = 65534


def small_files() -> None:
    """No file may grow past 100,000 bytes: what a full disk looks like to a process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def as_nobody() -> None:
    """Root may write into read-only folders, so a test of them must not be root."""
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def line_of(ended, code: int = 2) -> str:
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("distill", "-t", "student", "-s", "test_efficientnet", "-d", DATA, "-o", "out", "--set", "distill.epochs=1"),
        ("quantize", "student", "-d", DATA, "-o", "out"),
        ("export", "student", "-o", "out"),
        ("export", "student", "--standalone", "onnx", "-o", "out"),
        ("slim", "model.efm", "--keep", "onnx-int8", "-o", "out"),
    ],
    ids=lambda words: words[0] + ("-standalone" if "--standalone" in words else ""),
)
def test_a_full_disk_ends_in_one_line_and_no_output(copied: Command, words):
    line = line_of(copied(*words, preexec_fn=small_files))
    assert "File too large" in line or "cannot be written" in line
    assert not (copied.folder / "out").exists()


@pytest.fixture
def nobodys(copied: Command) -> Command:
    """A copy of the road that another user may read, with a read-only folder in it."""
    place = Path("/tmp" if os.geteuid() == 0 else copied.folder)
    open_folder = place / f"edgefm-test-{os.getpid()}"
    shutil.copytree(copied.folder, open_folder)
    (open_folder / "locked").mkdir(mode=0o555)
    for path in open_folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() else 0))
    open_folder.chmod(0o755)
    (open_folder / "locked").chmod(0o555)
    command = Command(open_folder)
    probe = command("--version", preexec_fn=as_nobody)
    if probe.returncode != 0:
        shutil.rmtree(open_folder)
        pytest.skip(f"another user cannot run {sys.executable} here")
    yield command
    (open_folder / "locked").chmod(0o755)
    shutil.rmtree(open_folder)


@pytest.mark.parametrize(
    "words",
    [
        ("distill", "-t", "student", "-s", "test_efficientnet", "-d", DATA, "-o", "locked/out", "--set", "distill.epochs=1"),
        ("quantize", "student", "-d", DATA, "-o", "locked/out"),
        ("export", "student", "-o", "locked/out"),
        ("slim", "model.efm", "--keep", "onnx-int8", "-o", "locked/out"),
        ("quickstart", "--data", DATA, "-o", "locked/out"),
    ],
    ids=lambda words: words[0],
)
def test_a_read_only_folder_is_named_before_the_work_begins(nobodys: Command, words):
    line = line_of(nobodys(*words, preexec_fn=as_nobody))
    assert "locked is read-only" in line


def test_run_needs_no_writable_cache(nobodys: Command):
    ended = nobodys.done("run", "model.efm", "images/0.png", preexec_fn=as_nobody)
    assert "no writable cache" in ended.stderr
