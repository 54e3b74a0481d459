"""Every way the command can end: its exit code, one line on stderr, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefm.errors import GateRefused, InputError, MissingExtra, ParityError

STUB = """
import inspect, sys, time
from edgefm import api, errors
from edgefm.__main__ import main

original = api.{verb}

def stub(**options):
    {body}

stub.__doc__, stub.__signature__ = original.__doc__, inspect.signature(original)
api.{verb} = stub
sys.argv = ["edgefm", "{verb}", *{words!r}]
sys.exit(main())
"""
DISTILL = ("-t", "a", "-d", "b", "-o", "c")
SLIM = ("a.efm", "--keep", "onnx-int8", "-o", "b.efm")


def command(body: str, verb: str = "doctor", *words: str) -> list[str]:
    return [sys.executable, "-c", STUB.format(body=body, verb=verb, words=list(words))]


def ended(body: str, verb: str = "doctor", *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(body, verb, *words), text=True, capture_output=True, check=False, **options)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (InputError("the file is red", expected="a blue one", do="paint it"), 2),
        (MissingExtra("torch", "compress", "distill"), 2),
        (GateRefused("two metrics fell"), 3),
        (ParityError("they differ"), 4),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(raised, code):
    words = f"errors.{type(raised).__name__}({', '.join(map(repr, raised.args))})"
    if isinstance(raised, MissingExtra):
        words = "errors.MissingExtra('torch', 'compress', 'distill')"
    done = ended(f"raise {words}")
    assert done.returncode == code
    assert done.stderr.startswith(f"edgefm: {raised}".rstrip("."))
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_with_json_an_error_is_also_an_object_on_stdout():
    done = ended("raise errors.GateRefused('int8 flips')", "doctor", "--json")
    assert json.loads(done.stdout) == {"error": "int8 flips.", "exit_code": 3}
    assert done.returncode == 3


def test_a_bug_is_one_line_and_a_file_with_the_traceback(tmp_path: Path):
    done = ended("1 / 0", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a bug of ours: ZeroDivisionError: division by zero" in done.stderr
    (kept,) = tmp_path.glob("edgefm-bug-*.txt")
    assert str(kept) in done.stderr
    assert "1 / 0" not in done.stderr
    assert "ZeroDivisionError" in kept.read_text()


def test_a_bug_with_no_room_for_its_file_still_ends_with_1(tmp_path: Path):
    missing = str(tmp_path / "none")
    limit = f"import tempfile; tempfile.tempdir = {missing!r}; 1 / 0"
    done = ended(limit)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(("module", "extra"), [("torch", "compress"), ("sklearn", "verify")])
def test_a_verb_that_the_machine_was_not_installed_for_is_no_bug(module, extra):
    # None in sys.modules, and nobody who finds it: as where it is not installed
    body = f"""import importlib.util
    importlib.util.find_spec = lambda name: None
    sys.modules["{module}"] = None
    import {module}.of.something"""
    done = ended(body, "distill", *DISTILL)
    assert done.returncode == 2
    line = f"edgefm: distill needs {module}, which is not installed here. Install it with: pip install 'edgefm[{extra}]'."
    assert done.stderr == line + "\n"


@pytest.mark.parametrize("name", ["edgefm.no_such_room", "no_such_library", "torch.no_such_part"])
def test_a_module_of_ours_that_is_missing_is_a_bug(name, tmp_path: Path):
    pytest.importorskip("torch")
    done = ended(f"raise ModuleNotFoundError('gone', name={name!r})", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 1


def test_missing_memory_is_no_bug():
    done = ended("raise MemoryError")
    assert (done.returncode, "not enough memory" in done.stderr) == (2, True)


def test_a_path_that_the_system_refuses_is_no_bug():
    done = ended("open('/proc/nothing/here')")
    assert done.returncode == 2
    assert "/proc/nothing/here: No such file or directory" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["doctor", "--json"]])
def test_a_full_disk_under_stdout_is_no_bug(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgefm", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_quiet():
    child = subprocess.Popen(
        [sys.executable, "-m", "edgefm", "distill", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.close()
    assert child.wait(20) == 0
    assert child.stderr.read() == b""


@pytest.mark.parametrize(
    ("number", "verb", "words", "code", "line"),
    [
        (signal.SIGINT, "doctor", (), 130, "stopped"),
        (signal.SIGINT, "slim", SLIM, 130, "stopped; nothing was written under the name you gave"),
        (signal.SIGINT, "distill", DISTILL, 130, "stopped; the same command with --resume goes on"),
        (signal.SIGTERM, "distill", DISTILL, 143, "stopped; the same command with --resume goes on"),
    ],
)
def test_a_signal_stops_it_in_one_line(number, verb, words, code, line):
    assert _signalled("time.sleep(30)", number, verb, *words) == (code, f"edgefm: {line}\n")


def test_a_library_that_turns_ctrl_c_into_its_own_error_does_not_hide_it():
    body = """try:
        time.sleep(30)
    except KeyboardInterrupt:
        raise RuntimeError("callback failed")"""
    code, line = _signalled(body, signal.SIGINT, "doctor")
    assert code == 130
    assert "bug" not in line


def _signalled(body: str, number: int, verb: str, *words: str) -> tuple[int, str]:
    ready = "print('ready', flush=True)\n    " + body
    child = subprocess.Popen(command(ready, verb, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    child.send_signal(number)
    _, stderr = child.communicate(timeout=20)
    return child.returncode, stderr
