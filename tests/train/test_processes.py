"""Two processes under torchrun: the same curve as one, the same weights in both, files from the main one only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgefm.errors import InputError
from edgefm.runtime import cpu
from edgefm.train import processes
from edgefm.train.checkpoint import snapshot

from .runs import CPU, curve, run, training_of
from .together import RUNS
from .toys import Plain


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of together.py's runs in two processes, and what each of them told."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["-m", "tests.train.together", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_two_processes_ran_and_ended_with_the_same_weights(together: tuple[Path, list[dict[str, Any]]]) -> None:
    _, told = together
    assert [each["rank"] for each in told] == [0, 1]
    assert all(all(each["same"].values()) for each in told)
    assert set(told[0]["same"]) == {*RUNS, "stopped"}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns(
    together: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(cpu, "cpu_features", dict)
    folder, _ = together
    train, recipe = RUNS[name]
    module = Plain()
    run(training_of(module, train=train, recipe=recipe), tmp_path / "alone")
    lines = curve(folder / name)
    assert len(lines) == recipe.epochs
    for line, alone in zip(lines, curve(tmp_path / "alone")):
        assert line == pytest.approx(alone, abs=1e-5)
    end, both = snapshot(module), load_file(folder / name / "end.safetensors")
    assert max((end[name] - both[name]).abs().max().item() for name in end) < 1e-5
    assert any((end[name] - value).abs().max().item() > 1e-3 for name, value in snapshot(Plain()).items())


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = processes.join(CPU)
    assert (alone.count, alone.main, alone.from_main(7)) == (1, True, 7)
    value = torch.ones(3)
    alone.add([value])
    assert value.tolist() == [1, 1, 1]
    code = "import sys, torch, edgefm.train.loop as l, edgefm.train.processes as p; p.join(torch.device('cpu'))"
    code += "; assert 'accelerate' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_accelerate_that_starts_one_process_of_several_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch --cpu --num_processes 2` does."""
    for name, value in {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="asked for several processes and started one"):
        processes.join(CPU)
    monkeypatch.setenv("MASTER_ADDR", "node7")  # of a cluster
    assert processes.join(CPU).count == 1
    monkeypatch.delenv("MASTER_ADDR")  # of --num_processes 1
    assert processes.join(CPU).count == 1


def test_fewer_processes_than_were_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class One:
        num_processes, process_index = 1, 0

        def __init__(self, **options: Any) -> None:
            pass

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", One)
    with pytest.raises(InputError, match="2 processes were started and 1 work together"):
        processes.join(CPU)


def test_a_process_that_is_gone_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(value: object) -> object:
        raise RuntimeError("[/a/place/in/gloo/pair.cc:561] Connection closed by peer [127.0.0.1]:5. Check the logs.")

    monkeypatch.setattr("accelerate.utils.broadcast_object_list", gone)
    with pytest.raises(InputError, match=r"is gone \(Connection closed by peer \[127.0.0.1\]:5\).*--resume goes on"):
        processes.Processes(0, 2).wait()
