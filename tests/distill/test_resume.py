"""Runs that were stopped: what goes on ends as if it had not been, and only what belongs together goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from edgefm.errors import InputError
from edgefm.spec.recipe import LossRecipe

from .test_distill import run, terms

Make = Callable[..., Path]


def test_an_interrupted_run_goes_on_with_resume_only_as_it_was(tmp_path: Path, make_data: Make, teacher: Any) -> None:
    data = make_data()

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(teacher, data, tmp_path / "run", report=interrupt)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"distill.lr was 0.001 and is 0.002"):
        run(teacher, data, tmp_path / "run", "distill.lr=0.002", resume=True)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(data.parent / "0.png")
    with pytest.raises(InputError, match="data was"):
        run(teacher, data, tmp_path / "run", resume=True)
    make_data()
    with torch.no_grad():
        teacher.scale[0] += 1
    asked = teacher.asked
    with pytest.raises(InputError, match="teacher was"):
        run(teacher, data, tmp_path / "run", resume=True)
    assert teacher.asked == asked + 1  # refused before it had to answer more than what its answers look like
    with torch.no_grad():
        teacher.scale[0] -= 1
    teacher.asked = 0
    run(teacher, data, tmp_path / "run", "quantize.max_drop=0.1", resume=True)  # not a setting of this verb
    assert teacher.asked == 10  # the second view only


SCRIPT = """
import sys
import time
from pathlib import Path
import torch
torch.set_num_threads(1)
from edgefm.distill import distill
from edgefm.settings import load_recipe
from edgefm.train.checkpoint import Checkpoint
from tests.distill.conftest import AttentiveTeacher

written = Checkpoint.write

def write(self, state):
    written(self, state)
    if state.steps == int(sys.argv[4]):
        print(f"step {state.steps} of {' and '.join(self.modules)}", flush=True)
        time.sleep(600)

Checkpoint.write, Checkpoint.due = write, lambda self: True
# The last epoch is the best: an earlier one's weights would hide what came after the checkpoint.
sys.modules["edgefm.distill.distill"]._validate = lambda plan, said: lambda module, precision: None
sets = ["distill.epochs=3", "distill.views=2", "distill.batch=4", "distill.tokens=4"]
sets += ["distill.losses={logits: 1, features: 1, tokens: 1, labels: 1, attention: 1, relation: 1}"]
distill(AttentiveTeacher(), "test_vit", sys.argv[1], Path(sys.argv[2]), recipe=load_recipe(None, sets),
        resume=sys.argv[3] == "resume", report=lambda line: print(line, flush=True))
"""


def test_a_run_that_is_killed_twice_and_resumed_ends_with_the_same_bytes(tmp_path: Path, root: Path, make_data: Make) -> None:
    data = make_data(train=12, val=4)
    environment = os.environ | {"PYTHONPATH": str(root)}

    def start(out: str, mode: str, step: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(data), str(tmp_path / out), mode, str(step)]
        return subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)

    def kill(mode: str, step: int) -> list[str]:
        """At that step; what it said before."""
        said = []
        with start("killed", mode, step) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.rstrip())
                if line.startswith(f"step {step} "):
                    process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert (tmp_path / "killed.partial").is_dir()
        return said

    assert kill("fresh", 4)[-1] == "step 4 of model and beside"  # amid an epoch; the projectors learn along
    assert "going on after epoch 1 of 3 and 1 of the next one's 3 steps" in kill("resume", 6)  # at the end of one
    said = {}
    for out, mode in (("killed", "resume"), ("whole", "fresh")):
        process = start(out, mode)
        said[out], _ = process.communicate()
        assert process.returncode == 0
    assert "going on after epoch 2 of 3\n" in said["killed"]
    assert "going on" not in said["whole"]
    assert terms(tmp_path / "whole") == {f"loss_{name}" for name in msgspec.structs.asdict(LossRecipe())}
    assert json.loads((tmp_path / "whole" / "evaluation.json").read_text())["best_epoch"] == 3
    for name in ("model.safetensors", "config.json", "edgefm.json", "recipe.yaml", "evaluation.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


FILE = """
import torch
from edgefm.spec.preprocess import Preprocess

class Model(torch.nn.Module):
    preprocess = Preprocess(channels=1, size=32, resize_to=32, mean=(0.5,), std=(0.25,))
    labels = ("dark", "bright")

    def forward(self, x):
        return x.mean(dim=(2, 3)) * torch.tensor([-1.0, 1.0])

def teacher():
    return Model()
"""


def test_a_teacher_of_equal_weights_that_answers_otherwise_is_another_one(tmp_path: Path, make_data: Make) -> None:
    data, file, lines = make_data(), tmp_path / "models.py", list[str]()
    file.write_text(FILE)

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(f"{file}:teacher", data, tmp_path / "run", trust_remote_code=True, report=interrupt)
    file.write_text(FILE.replace("x.mean", "x.amax"))
    with pytest.raises(InputError, match="structure was"):
        run(f"{file}:teacher", data, tmp_path / "run", trust_remote_code=True, resume=True)
    run(f"{file}:teacher", data, tmp_path / "other", trust_remote_code=True, report=lines.append)
    assert any(line.startswith("the teacher is asked 26 times;") for line in lines)  # nothing of the first one's
