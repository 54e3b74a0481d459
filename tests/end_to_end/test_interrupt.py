"""Ctrl-C in each verb: exit code 130, one line, nothing half made under the good name; and a distillation that goes on."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest

from .conftest import DATA, Command

DISTILL = (
    *("distill", "-t", "models.py:teacher", "--trust-remote-code", "-s", "test_efficientnet", "-d", DATA),
    *("--set", "distill.views=1"),
)


def stopped(ended: tuple[int, str], code: int = 130) -> str:
    """The line that a stopped command leaves."""
    found, stderr = ended
    line = stderr.splitlines()[-1]
    assert found == code, stderr
    assert line.startswith("edgefm: stopped")
    assert "Traceback" not in stderr
    return line


def test_a_stopped_distillation_goes_on_to_the_same_weights(edgefm: Command):
    epochs = ("--set", "distill.epochs=3")
    line = stopped(edgefm.interrupted(*DISTILL, *epochs, "-o", "out", after="epoch 1/3"))
    assert "--resume goes on" in line
    assert not (edgefm.folder / "out").exists()
    ended = edgefm.done(*DISTILL, *epochs, "-o", "out", "--resume")
    assert "going on after epoch" in ended.stderr
    edgefm.done(*DISTILL, *epochs, "-o", "other")
    one, other = ((edgefm.folder / name / "model.safetensors").read_bytes() for name in ("out", "other"))
    assert one == other


def test_sigterm_stops_a_distillation_as_ctrl_c_does(edgefm: Command):
    ended = edgefm.interrupted(*DISTILL, "--set", "distill.epochs=50", "-o", "out", after="epoch 1/50", number=signal.SIGTERM)
    assert "--resume goes on" in stopped(ended, 143)
    assert not (edgefm.folder / "out").exists()


def test_a_stopped_quantization_leaves_no_bundle(copied: Command):
    stopped(copied.interrupted("quantize", "student", "-d", DATA, "-o", "new.efm", after="as the model"))
    assert not (copied.folder / "new.efm").exists()


def test_a_stopped_export_leaves_no_bundle(copied: Command):
    stopped(copied.interrupted("export", "student", "-o", "new.efm", after="as the model"))
    assert not (copied.folder / "new.efm").exists()


def test_a_stopped_quickstart_leaves_no_folder(edgefm: Command):
    stopped(edgefm.interrupted("quickstart", "--data", DATA, "-o", "out", after="1/5"))
    assert not (edgefm.folder / "out").exists()


def test_a_stopped_run_has_answered_whole_lines(copied: Command):
    child = copied.start("run", "model.efm", *["images"] * 400, "--json")
    lines = [child.stdout.readline() for _ in range(3)]
    child.send_signal(signal.SIGINT)
    rest, stderr = child.communicate(timeout=60)
    stopped((child.returncode, stderr))
    answers = rest.splitlines()
    assert json.loads(answers.pop())["exit_code"] == 130
    assert all(json.loads(line)["label"] for line in [*lines, *answers])


@pytest.mark.parametrize("verb", ["inspect", "slim", "doctor"])
def test_a_quick_verb_stopped_at_any_moment_leaves_all_or_nothing(copied: Command, verb):
    words = {"inspect": ("model.efm",), "slim": ("model.efm", "--keep", "onnx-int8", "-o", "small.efm"), "doctor": ()}[verb]
    for moment in (0.05, 0.1, 0.2, 0.3):
        child = copied.start(verb, *words)
        time.sleep(moment)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
        before = child.returncode == 1 and "edgefm" not in stderr  # Python itself was still starting
        assert before or child.returncode in (0, 130, -signal.SIGINT), stderr  # the last: before EdgeFM had begun
        if (copied.folder / "small.efm").exists():
            copied.done("inspect", "small.efm")
            (copied.folder / "small.efm").unlink()


def test_sessions_that_are_gone_leave_no_trap_for_the_next_signal(copied: Command):
    # OpenVINO's CPU plugin lends each thread a signal stack; one that outlived its core made the next Ctrl-C a crash.
    code = """
import gc, os, signal, threading, edgefm
sessions = [edgefm.Session("model.efm", variant="openvino-fp32") for _ in range(3)]
while sessions:
    sessions.pop(0).close()
    gc.collect()
threading.Thread(target=lambda: edgefm.Session("model.efm", variant="openvino-int8").close()).start()
caught = []
signal.signal(signal.SIGINT, lambda *_: caught.append(1))
os.kill(os.getpid(), signal.SIGINT)
print(len(caught))
"""
    copied.words = [sys.executable, "-c", code]
    assert copied.done().stdout == "1\n"
