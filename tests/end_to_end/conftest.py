"""The installed command, as a user calls it, and small things to call it on.

Not the functions: those are tested room by room.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from edgefm.data.phantom import phantom

DATA = "phantom:opacity?n=60&size=64"
MODELS = '''
import timm
import torch


def teacher():
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2)
    model.pretrained_cfg["label_names"] = ["clear", "opacity"]
    return model.eval()


class Stubborn(torch.nn.Module):
    """Says that it is in evaluation mode and is not."""

    def __init__(self):
        super().__init__()
        import edgefm

        self.preprocess = edgefm.Preprocess(channels=1, size=32, resize_to=32, mean=(0.5,), std=(0.25,))
        self.labels = ("clear", "opacity")
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(1024, 2))

    def forward(self, x):
        return self.layers(x)

    def eval(self):
        return self


def training():
    return Stubborn()
'''


class Command:
    """The command `edgefm` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = Path(sys.executable).with_name("edgefm")
        self.words: Sequence[str] = [str(script)] if script.exists() else [sys.executable, "-m", "edgefm"]

    def __call__(self, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run to the end; stdout and stderr are text."""
        command = [*self.words, *map(str, words)]
        return subprocess.run(
            command, cwd=self.folder, text=True, capture_output=True, check=False, timeout=900, env=self._env(), **options
        )

    def done(self, *words: object, code: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
        """Run and hold it to its exit code."""
        ended = self(*words, **options)
        assert ended.returncode == code, ended.stderr
        return ended

    def start(self, *words: object, **options: object) -> subprocess.Popen[str]:
        """Start without waiting."""
        command = [*self.words, *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, text=True, stdout=pipe, stderr=pipe, env=self._env(), **options)

    def interrupted(self, *words: object, after: str, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send a signal once `after` stands on stderr; the exit code and what stderr held after that."""
        child = self.start(*words)
        told = []
        for line in child.stderr:
            told.append(line)
            if after in line:
                break
        else:
            pytest.fail(f"never said {after!r}: {''.join(told)}")
        child.send_signal(number)
        _, rest = child.communicate(timeout=120)
        return child.returncode, rest

    def _env(self) -> dict[str, str]:
        root = Path(__file__).resolve().parents[2]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}


@pytest.fixture
def edgefm(tmp_path: Path) -> Command:
    (tmp_path / "models.py").write_text(MODELS)
    return Command(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `student/`, `model.efm` (all variants) and `images/`, made once by the command itself."""
    folder = tmp_path_factory.mktemp("road")
    (folder / "models.py").write_text(MODELS)
    edgefm = Command(folder)
    edgefm.done(
        *("distill", "-t", "models.py:teacher", "--trust-remote-code", "-s", "test_efficientnet", "-d", DATA, "-o", "student"),
        *("--set", "distill.epochs=1", "--set", "distill.views=1", "--licence", "Apache-2.0"),
    )
    edgefm.done("quantize", "student", "-d", DATA, "-o", "model.efm", "--max-drop", 1, "--max-flips", 1)
    draw(folder / "images", 6)
    return folder


@pytest.fixture
def copied(made: Path, edgefm: Command) -> Command:
    """The command in a folder that has a copy of what `made` holds."""
    shutil.copytree(made, edgefm.folder, dirs_exist_ok=True)
    return edgefm


def draw(folder: Path, count: int) -> list[Path]:
    """Generated radiographs as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = phantom("opacity", n=max(20, count), size=64)
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(dataset.pixels(number)).save(file)
    return files
