"""TensorBoard's files hold the curves of metrics.jsonl, once each; without the package a run does not start."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from edgefm.errors import MissingExtra

from .runs import SHORT, Stop, curve, run, training_of

ASKED = msgspec.structs.replace(SHORT, tensorboard=True)


class Writer:
    """Stands in for torch's SummaryWriter: a line per value."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.lines: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, epoch: int) -> None:
        self.lines.append((name, value, epoch))

    def flush(self) -> None:
        (self.folder / "events").write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def close(self) -> None:
        self.flush()
        (self.folder / "closed").touch()


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


def events(folder: Path) -> list[tuple[str, float, int]]:
    assert (folder / "tensorboard" / "closed").exists()
    return [tuple(json.loads(line)) for line in (folder / "tensorboard" / "events").read_text().splitlines()]


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.parametrize("step", [None, 4, 11], ids=["a whole run", "stopped after 4 steps", "stopped after 11 steps"])
def test_every_epoch_is_there_once_also_after_a_stop(tmp_path: Path, step: int | None) -> None:
    if step is not None:
        with pytest.raises(Stop):
            run(training_of(recipe=ASKED, stop=step), tmp_path / "run")
    run(training_of(recipe=ASKED), tmp_path / "run", resume=step is not None)
    found = events(tmp_path / "run")
    wanted = [(n, v, line["epoch"]) for line in curve(tmp_path / "run") for n, v in line.items() if n != "epoch"]
    assert [each for each in found if each[0] not in ("seconds", "images_per_s")] == wanted


@pytest.mark.usefixtures("tensorboard")
def test_nobody_asked_nothing_is_written(tmp_path: Path) -> None:
    run(training_of(), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_without_the_package_training_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"tensorboard: true needs tensorboard.*pip install 'edgefm\[tensorboard\]'"):
        run(training_of(recipe=ASKED, stop=0), tmp_path / "run")
