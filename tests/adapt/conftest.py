"""A small labelled data set on disk, and encoders of it that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from ..models.conftest import write_timm_folder

SIZE = 32
VIT = {"img_size": SIZE, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
CODE = """
import torch
from edgefm.spec.preprocess import Preprocess

class Encoder(torch.nn.Module):
    preprocess = Preprocess(channels=3, size=32, resize_to=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    licence = "CC-BY-NC-4.0"

    def forward(self, x):
        means = torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return torch.cat([means, means.square()], dim=1)

def encoder():
    return Encoder()
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Toy models are no faster on two threads, and much slower where other work keeps the processor busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """A CSV of pictures in tmp_path/data, brighter with each label, as many `calibrate` as `val`; gives its path."""

    def make(train: int = 12, val: int = 6, labels: tuple[str, ...] | None = ("dark", "bright")) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        kinds = len(labels or "ab")
        lines = ["file,split" if labels is None else "file,label,split"]
        for i in range(train + 2 * val):
            pixels = rng.integers(0, 120 + 100 * (i % kinds) // (kinds - 1 or 1), (SIZE, SIZE)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            split = "train" if i < train else "val" if i < train + val else "calibrate"
            lines.append(",".join([f"{i}.png", *([] if labels is None else [labels[i % kinds]]), split]))
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
        return folder / "labels.csv"

    return make


@pytest.fixture
def code(tmp_path: Path) -> str:
    """FILE.py:FUNCTION of an encoder 24 wide that sees how bright an image is."""
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}:encoder"


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A folder with a timm vision transformer without a classifier, 32 wide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    return write_timm_folder(tmp_path / "vit", "vit_tiny_patch16_224", model, model_args=VIT)
