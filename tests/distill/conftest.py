"""A small labelled data set on disk, and teachers of it that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from edgefm.data.sources import load_data
from edgefm.distill import questions
from edgefm.distill.cache import TeacherCache
from edgefm.distill.questions import Questions
from edgefm.distill.sizes import find_sizes, short_name
from edgefm.distill.teacher import Teacher as Asked
from edgefm.models import load_model
from edgefm.models.loaded import Outputs
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import AugmentRecipe
from edgefm.train.images import Images

SIZE = 32
Open = Callable[..., TeacherCache]


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

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor | None, ...] | torch.Tensor:
        self.asked += len(x)
        answer = 4 * x.mean(dim=(1, 2, 3))[:, None] * self.scale[None, :]
        if not self.labels:
            return answer + x[:, 0, :8, 0]
        spread = torch.linspace(-1, 1, len(self.labels))
        return 4 * x.mean(dim=(1, 2, 3))[:, None] * spread[None, :], answer


class GridTeacher(Teacher):
    """The same with a grid of features, 3 x 4 x 4: mean, mean square and maximum of each 8 x 8 pixels."""

    def forward(self, x: torch.Tensor) -> Outputs:
        logits, embedding = super().forward(x)
        cells = x[:, 0].unfold(1, 8, 8).unfold(2, 8, 8).flatten(3)
        return Outputs(logits, embedding, torch.stack([cells.mean(3), cells.square().mean(3), cells.amax(3)], dim=1))


class AttentiveTeacher(Teacher):
    """The same with a vision transformer of random weights beside it, whose class token is its embedding: 10 x 10 patches of 16
    pixels, 4 heads where the student "test_vit" has 2, half of its 6 layers."""

    def __init__(self, labels: tuple[str, ...] = ("dark", "bright"), heads: int = 4, depth: int = 3, size: int = 160) -> None:
        super().__init__(labels)
        self.preprocess = msgspec.structs.replace(self.preprocess, size=size, resize_to=size)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            options: dict[str, Any] = {"num_heads": heads, "depth": depth, "img_size": size}
            self.vit = timm.create_model("test_vit", num_classes=0, in_chans=1, **options).requires_grad_(False)
            for block in self.vit.blocks:
                block.attn.qkv.weight.mul_(8)  # maps that are not flat

    def forward(self, x: torch.Tensor) -> Outputs:
        answer = super().forward(x)
        features = self.vit.forward_features(x)
        logits = answer[0] if self.labels else None
        return Outputs(logits, features[:, 0], features[:, 1:].transpose(1, 2).unflatten(2, self.vit.patch_embed.grid_size))


@pytest.fixture
def attentive_teacher() -> AttentiveTeacher:
    return AttentiveTeacher()


@pytest.fixture
def teacher() -> Teacher:
    return Teacher()


@pytest.fixture
def make_teacher() -> type[Teacher]:
    return Teacher


@pytest.fixture
def grid_teacher() -> GridTeacher:
    return GridTeacher()


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """A CSV of dark and bright pictures in tmp_path/data, as many `calibrate` as `val`; gives its path.

    `labelled`: so many of train have their label, None for all.
    """

    def make(
        train: int = 10,
        val: int = 6,
        labels: tuple[str, ...] | None = ("dark", "bright"),
        labelled: int | None = None,
        name: str = "labels.csv",
    ) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        lines = ["file,split" if labels is None else "file,label,split"]
        for i in range(train + 2 * val):
            pixels = rng.integers(0, 120 + 90 * (i % 2), (SIZE, SIZE)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            split = "train" if i < train else ("val", "calibrate")[i // 2 % 2]
            bare = labelled is not None and labelled <= i < train
            lines.append(",".join([f"{i}.png", *([] if labels is None else ["" if bare else labels[i % len(labels)]]), split]))
        (folder / name).write_text("\n".join(lines) + "\n")
        return folder / name

    return make


def quiet(done: int, count: int) -> None:
    """No progress."""


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images in each file of the cache."""
    monkeypatch.setattr(questions, "ROWS", 4)


@pytest.fixture
def open_cache(tmp_path: Path) -> Open:
    """A cache in tmp_path/cache of a teacher's answers to a data set's images."""

    def make(module: Any, data: Path, lines: list[str] | None = None, *, tap: str | None = None, **asked: Any) -> TeacherCache:
        told: list[str] = [] if lines is None else lines
        teacher = Asked(load_model(module), device=torch.device("cpu"), tap=tap, window16=asked.pop("window16", None))
        images, root = Images(load_data(data)), tmp_path / "cache"
        sizes = find_sizes(root / short_name(teacher.identity), teacher, images)
        wanted = {"views": 2, "patches": 5, "seed": 0, "augment": AugmentRecipe(), "frame": None} | asked
        cache = TeacherCache(root, teacher, Questions(teacher, sizes, images, **wanted), images, told.append)
        cache.check()
        return cache

    return make


def fill(cache: TeacherCache) -> None:
    """Ask everything."""
    cache.begin()
    cache.val_outputs(quiet)
    for view in range(len(cache.questions.views)):
        cache.prepare(view, quiet)


def files(cache: TeacherCache) -> dict[str, bytes]:
    """What is in its files."""
    return {each.name: each.read_bytes() for each in cache.folder.glob("*.safetensors")}
