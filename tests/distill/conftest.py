"""A small labelled data set on disk, and teachers of it that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgefm.spec.preprocess import Preprocess

SIZE = 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Toy models are no faster on two threads, and much slower where other work keeps the processor busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Teacher(nn.Module):
    """Knows the task: brighter means "bright". Counts the images it was asked about.

    `preprocess`, `labels` and `licence` are what a user's own module states about itself.
    """

    def __init__(self, labels: tuple[str, ...] = ("dark", "bright"), channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.preprocess = Preprocess(
            channels=channels,  # type: ignore[arg-type]
            size=SIZE,
            resize_to=SIZE,
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
        )
        self.labels = labels
        self.licence = "CC-BY-NC-4.0"
        self.asked = 0
        self.scale = nn.Parameter(torch.linspace(-1, 1, max(len(labels), width)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor] | torch.Tensor:
        self.asked += len(x)
        answer = 4 * x.mean(dim=(1, 2, 3))[:, None] * self.scale[None, :]
        if not self.labels:
            return answer + x[:, 0, :8, 0]
        spread = torch.linspace(-1, 1, len(self.labels))
        return 4 * x.mean(dim=(1, 2, 3))[:, None] * spread[None, :], answer


@pytest.fixture
def teacher() -> Teacher:
    return Teacher()


@pytest.fixture
def make_teacher() -> type[Teacher]:
    return Teacher


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """A CSV of dark and bright pictures in tmp_path/data, as many `calibrate` as `val`; gives its path."""

    def make(train: int = 10, val: int = 6, labels: tuple[str, ...] | None = ("dark", "bright")) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        lines = ["file,split" if labels is None else "file,label,split"]
        for i in range(train + 2 * val):
            pixels = rng.integers(0, 120 + 90 * (i % 2), (SIZE, SIZE)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            split = "train" if i < train else ("val", "calibrate")[i // 2 % 2]
            lines.append(",".join([f"{i}.png", *([] if labels is None else [labels[i % len(labels)]]), split]))
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
        return folder / "labels.csv"

    return make
