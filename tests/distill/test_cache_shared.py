"""The teacher cache under what happens to files: killed processes, other runs at the same time, full disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgefm.distill import distill
from edgefm.errors import InputError
from edgefm.settings import load_recipe

from ..limits import files_of_at_most
from .conftest import Open, Teacher, fill, quiet

pytestmark = pytest.mark.usefixtures("small_files")
Make = Callable[..., Path]
SETS = ["distill.epochs=2", "distill.views=2", "distill.batch=6"]
SCRIPT = """
import sys, time
from pathlib import Path
import torch
from tests.distill.conftest import Teacher
from edgefm.distill import distill, questions
from edgefm.settings import load_recipe
torch.set_num_threads(1)
questions.ROWS = 4

answer = Teacher.forward

def slowly(self, x):
    print("asked", self.asked, flush=True)
    time.sleep(0.2)
    return answer(self, x)

Teacher.forward = slowly  # not a class of its own, which would be another teacher
distill(Teacher(), "test_vit", sys.argv[1], Path(sys.argv[2]), recipe=load_recipe(None, sys.argv[3:]))
"""


def test_a_run_killed_while_its_teacher_answers_goes_on_to_the_same_bytes(tmp_path: Path, root: Path, make_data: Make) -> None:
    data = make_data(train=14, val=4)
    command = [sys.executable, "-c", SCRIPT, str(data), str(tmp_path / "killed" / "run"), *SETS]
    killed = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(root)}, cwd=root, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("asked 13"):  # one, four of val, and now the third file of the first view
            killed.send_signal(signal.SIGKILL)
            break
    killed.wait()
    killed.stdout.close()
    left = {each.name for each in (tmp_path / "killed" / "teacher-cache").rglob("*.safetensors")}
    assert left == {"val-00000.safetensors", "view-0-00000.safetensors", "view-0-00001.safetensors"}
    teacher = Teacher()
    distill(teacher, "test_vit", data, tmp_path / "killed" / "run", recipe=load_recipe(None, SETS), resume=True)
    assert teacher.asked == 2 * 14 - 8
    distill(Teacher(), "test_vit", data, tmp_path / "whole" / "run", recipe=load_recipe(None, SETS))
    for name in ("run/model.safetensors", "run/evaluation.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    one, other = (
        {each.name: each.read_bytes() for each in (tmp_path / where / "teacher-cache").rglob("*.safetensors")}
        for where in ("killed", "whole")
    )
    assert one == other


def test_of_two_runs_at_once_one_asks_and_the_other_waits(open_cache: Open, make_data: Make) -> None:
    began, go = threading.Event(), threading.Event()

    class Held(Teacher):
        def forward(self, x: torch.Tensor) -> Any:
            if self.asked > 1:  # what its answers look like was asked before, for each of the two
                began.set()
                assert go.wait(30)
            return super().forward(x)

    data = make_data(train=10, val=4)
    module, lines = Held(), []  # type: ignore[var-annotated]
    first, second = open_cache(module, data), open_cache(module, data, lines)
    waiting = [threading.Thread(target=fill, args=(cache,)) for cache in (first, second)]
    waiting[0].start()
    assert began.wait(30)
    waiting[1].start()
    while not any("waiting for its answers" in line for line in lines):
        assert waiting[1].is_alive()
    go.set()
    for thread in waiting:
        thread.join(60)
    asked = module.asked
    assert asked == 2 + 2 * 10 + 4
    assert not open_cache(module, data).missing


def test_a_disk_that_fills_is_named_with_the_file_and_leaves_no_half_of_it(
    open_cache: Open,
    make_data: Make,
    make_teacher: Any,
) -> None:
    cache = open_cache(make_teacher(width=200), make_data(train=10, val=2))
    cache.begin()
    message = r"val-00000\.safetensors.* cannot be written \(File too large\)\. Free some space, or choose"
    with pytest.raises(InputError, match=message), files_of_at_most(1500):
        cache.val_outputs(quiet)
    assert not [each.name for each in cache.folder.iterdir() if "safetensors" in each.name]


def test_a_folder_that_cannot_be_made_is_named(open_cache: Open, make_data: Make, teacher: Any, tmp_path: Path) -> None:
    cache = open_cache(teacher, make_data())
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)\. Choose another folder with --cache"):
        cache.prepare(0, quiet)
