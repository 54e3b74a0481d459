"""Checkpoints: a run that was stopped ends with the same bytes, in mid-epoch too; what is damaged is refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from edgefm.errors import InputError
from edgefm.kernels.triton import measured
from edgefm.models.loaded import Outputs
from edgefm.spec.recipe import TrainRecipe
from edgefm.train import checkpoint, loop
from edgefm.train.checkpoint import FILE, STATE, snapshot
from edgefm.train.objective import Batch, Progress

from ..limits import files_of_at_most
from .runs import CPU, Stop, curve, run, same, training_of
from .toys import Toy


class Projected:
    """An objective with a projector of its own, which learns along: embeddings towards fixed random ones."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.projector = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.1), nn.Linear(6, 4))
            self.targets = torch.randn(18, 4)

    def prepare(self, view: int, progress: Progress) -> None:
        pass

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        assert self.projector.training
        return {"features": 50 * functional.mse_loss(self.projector(outputs.embedding.float()), self.targets[batch.indexes])}


@pytest.mark.parametrize("step", [0, 2, 3, 4, 10, 11], ids=lambda step: f"stopped after {step} steps")
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path, step: int) -> None:
    whole, resumed = Toy(), Toy(seed=9)
    state = run(training_of(whole), tmp_path / "whole")
    with pytest.raises(Stop):
        run(training_of(stop=step), tmp_path / "stopped")
    if step >= 3:  # an epoch has three steps: there is a checkpoint, so other initial weights do not matter
        other = run(training_of(resumed), tmp_path / "stopped", resume=True)
    else:
        resumed = Toy()
        other = run(training_of(resumed), tmp_path / "stopped", resume=True)
    assert same(whole, resumed)
    kept = ("epoch", "loss", "val_auc", "val_loss", "lr")
    assert [[line[key] for key in kept] for line in state.history] == [[line[key] for key in kept] for line in other.history]
    assert (state.best_epoch, state.best_score) == (other.best_epoch, other.best_score)


@pytest.mark.parametrize("step", [1, 4, 8, 10], ids=lambda step: f"stopped after {step} steps")
def test_a_run_that_was_stopped_in_mid_epoch_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole, resumed, recipe = Toy(), Toy(seed=9), TrainRecipe(epochs=2, views=2, batch=2, lr=0.02)
    run(training_of(whole, recipe=recipe), tmp_path / "whole")
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    with pytest.raises(Stop):
        run(training_of(recipe=recipe, stop=step), tmp_path / "stopped")
    left = 12 - step  # of two epochs with six steps: it may take no more, else Stop comes again
    run(training_of(resumed, recipe=recipe, stop=left), tmp_path / "stopped", resume=True)
    assert same(whole, resumed)
    assert curve(tmp_path / "whole") == curve(tmp_path / "stopped")


def test_a_checkpoint_in_mid_epoch_is_only_written_when_it_is_due(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(training_of(stop=2), tmp_path / "run")
    assert not (tmp_path / "run" / STATE).exists()


@pytest.mark.parametrize("step", [2, 5, 7], ids=lambda step: f"stopped after {step} steps")
def test_what_learns_beside_goes_on_too_and_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    modules = []
    for folder, stop in (("whole", None), ("stopped", step)):
        module, objective = Toy(), Projected()
        before = snapshot(objective.projector)
        training = training_of(module, objective=objective, beside=objective.projector, stop=stop)
        if stop is None:
            run(training, tmp_path / folder)
            assert not torch.equal(before["2.weight"], objective.projector[2].weight)
        else:
            with pytest.raises(Stop):
                run(training, tmp_path / folder)
            module, objective = Toy(seed=9), Projected()
            nn.init.ones_(objective.projector[2].weight)
            run(training_of(module, objective=objective, beside=objective.projector), tmp_path / folder, resume=True)
        modules.append((module, objective.projector))
    assert same(modules[0][0], modules[1][0])
    assert same(modules[0][1], modules[1][1])
    assert curve(tmp_path / "whole") == curve(tmp_path / "stopped")
    assert {"beside.2.weight", "exp_avg.beside.2.weight", "beside.0.running_mean"} <= set(
        load_file(tmp_path / "whole" / STATE / FILE)
    )


def test_a_run_killed_between_its_two_files_has_every_line_in_the_end(tmp_path: Path) -> None:
    run(training_of(), tmp_path / "run")
    lines = curve(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    run(training_of(), tmp_path / "run", resume=True)
    assert curve(tmp_path / "run") == lines


def test_killed_at_any_moment_a_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """`kill -9` from another process, five times in one run, wherever it is; see killed.py."""
    moments = ",".join(str(random.randint(3, 10)) for _ in range(5))
    command = [sys.executable, "-m", "tests.train.killed", str(tmp_path), moments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["threads"] > 1
    assert told["killed"] == 5
    assert told["within an epoch"] >= 1
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (whole / "end.safetensors").read_bytes() == (killed / "end.safetensors").read_bytes(), moments
    assert curve(whole) == curve(killed), moments


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    run(training_of(), tmp_path / "run", identity={"recipe": {"lr": 0.02}, "data": "a"})
    with pytest.raises(InputError, match=r"recipe.lr was 0.02 and is 0.03") as refusal:
        run(training_of(), tmp_path / "run", resume=True, identity={"recipe": {"lr": 0.03}, "data": "a"})
    assert "data" not in refusal.value.found


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other model"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    run(training_of(), tmp_path / "run")
    file = tmp_path / "run" / STATE / FILE
    whole = file.read_bytes()
    if damage != "other model":
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": bytes(range(256)) * 8}[damage])
    module = Toy(classes=3) if damage == "other model" else Toy()
    with pytest.raises(InputError, match=r"checkpoint .* is damaged .*[Ss]tart again without --resume"):
        run(training_of(module), tmp_path / "run", resume=True)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    whole = Toy()
    run(training_of(whole), tmp_path / "whole")
    with pytest.raises(Stop):
        run(training_of(stop=4), tmp_path / "run")
    before = (tmp_path / "run" / STATE / FILE).read_bytes()
    with files_of_at_most(1000), pytest.raises(InputError, match=r"checkpoint.* cannot be written"):
        run(training_of(), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / STATE / FILE).read_bytes() == before
    resumed = Toy()
    run(training_of(resumed), tmp_path / "run", resume=True)
    assert same(whole, resumed)


def test_a_resumed_run_keeps_the_kernels_blocks_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, tuple[int, ...]]] = []

    class Looking(Toy):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append({key: each for key in "ab" if (each := measured.measured(key, CPU)) is not None})
            return super().forward(x)

    monkeypatch.setattr(loop, "kept_on", lambda device: {"a": (64, 64, 4, 2)})
    with pytest.raises(Stop):
        run(training_of(Looking(), stop=5), tmp_path / "run")
    monkeypatch.setattr(loop, "kept_on", lambda device: {"a": (32, 32, 4, 2), "b": (16, 16, 4, 1)})
    run(training_of(Looking()), tmp_path / "run", resume=True)
    assert seen
    assert all(each == {"a": (64, 64, 4, 2)} for each in seen)
