"""Killed at any moment, a run that is resumed ends with the bytes of one that was not. Not what the runs hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgefm.adapt import features

from .runs import Make, Method, run

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from edgefm.adapt import features
from edgefm.train.checkpoint import Checkpoint
from tests.adapt.runs import run

features.SHARD = 4
written = Checkpoint.write

def write(self, state):
    written(self, state)
    print(f"step {state.steps}", flush=True)

Checkpoint.write, Checkpoint.due = write, lambda self: True
run(*map(Path, sys.argv[1:4]), sys.argv[4], bar=lambda share, left: print(f"share {share:.2f}", flush=True))
"""


@pytest.mark.parametrize(
    ("method", "moment", "said"),
    [
        ("linear", "share 0.44", "features of"),  # two of three shards of train, and none of val
        ("full", "step 3", "going on after epoch 1 of 2 and 1 of the next one's 2 steps"),
        pytest.param("lora", "step 3", "going on after epoch 1 of 2 and 1 of the next one's 2 steps", marks=pytest.mark.slow),
        ("qlora", "step 3", "going on after epoch 1 of 2 and 1 of the next one's 2 steps"),
    ],
    ids=["amid the features", "amid an epoch", "adapters amid an epoch", "adapters on nf4 amid an epoch"],
)
def test_a_killed_run_that_is_resumed_ends_with_the_same_bytes(
    tmp_path: Path,
    root: Path,
    make_data: Make,
    vit: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    moment: str,
    said: str,
) -> None:
    data = make_data(train=12, val=6)
    command = [sys.executable, "-c", SCRIPT, *map(str, (vit, data, tmp_path / "killed")), method]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.startswith(moment):
                killed.send_signal(signal.SIGKILL)
                break
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(features, "SHARD", 4)
    lines: list[str] = []
    computed: list[int] = []
    compute = features.Extraction._compute

    def count(self: features.Extraction, rows: Any, precision: Any) -> Any:
        computed.append(len(rows))
        return compute(self, rows, precision)

    monkeypatch.setattr(features.Extraction, "_compute", count)
    run(vit, data, tmp_path / "killed", method, resume=True, report=lines.append)
    assert any(line.startswith(said) for line in lines)
    assert method != "linear" or computed[:2] in (
        [4, 4],
        [4, 2],
    )  # the third shard of train, or val's first if that was written
    run(vit, data, tmp_path / "whole", method)
    names = ["model.safetensors", "config.json", "edgefm.json", "recipe.yaml", "evaluation.json"]
    if "lora" in method:
        names += ["adapters/default/adapter_config.json", "adapters/default/adapter_model.safetensors"]
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    if method != "linear":  # the best epoch may be the one before the kill: the curve shows what came after it
        assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert not (tmp_path / "killed" / "state").exists()


def curve(folder: Path) -> list[dict[str, Any]]:
    """`metrics.jsonl`, without what a clock measured."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in ("seconds", "images_per_s")} for line in lines
    ]
