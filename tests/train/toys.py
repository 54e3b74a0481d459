"""Small data sets in memory and small models for the loop's tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgefm.data.dataset import Dataset
from edgefm.models.loaded import Outputs
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Task, make_task

GREY = Preprocess(channels=1, size=16, resize_to=16, mean=(0.4,), std=(0.2,))
BINARY = make_task("binary", ("dark", "bright"))


@dataclass
class Store:
    """Arrays, and how often each was read."""

    arrays: list[np.ndarray]

    def __post_init__(self) -> None:
        self.reads = [0] * len(self.arrays)

    def pixels(self, key: int) -> np.ndarray:
        self.reads[key] += 1
        return self.arrays[key].copy()

    def digest(self, key: int) -> bytes:
        return hashlib.sha256(self.arrays[key].tobytes()).digest()

    def copies(self) -> dict[int, int]:
        return {}


def data_of(
    arrays: list[np.ndarray], labels: np.ndarray | None, splits: list[str], task: Task = BINARY, broken: str = "refuse"
) -> Dataset:
    count = len(arrays)
    return Dataset(
        name="toy",
        task=task if labels is not None else make_task("embedding"),
        names=tuple(f"image-{i}" for i in range(count)),
        rows=(None,) * count,
        labels=labels,
        patients=None,
        groups={},
        splits=np.array(splits, dtype="<U9"),
        store=Store(arrays),
        keys=np.arange(count),
        broken=broken,  # type: ignore[arg-type]
    )


def dark_and_bright(train: int = 12, val: int = 6, size: int = 16, seed: int = 0) -> Dataset:
    """Noise around two grey levels: easy, but not with every weight."""
    rng = np.random.default_rng(seed)
    labels = np.arange(train + val, dtype=np.int64) % 2
    arrays = [rng.integers(0, 160 + 60 * label, (size, size)).astype(np.uint8) for label in labels]
    return data_of(arrays, labels, ["train"] * train + ["val"] * val)


class Toy(nn.Module):
    """Convolution, BatchNorm, dropout, BatchNorm over single values: everything that is awkward to resume."""

    def __init__(self, classes: int = 2, channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Conv2d(channels, 6, 3, stride=2), nn.BatchNorm2d(6), nn.GELU())
            self.neck = nn.BatchNorm1d(6)
            self.drop = nn.Dropout(0.2)
            self.head = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> Outputs:
        embedding = self.drop(self.neck(self.body(x).mean(dim=(2, 3))))
        return Outputs(self.head(embedding), embedding)


class Plain(nn.Module):
    """Neither BatchNorm nor dropout: what it learns from a batch does not depend on how the batch is cut."""

    def __init__(self, classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.GELU())
            self.head = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> Outputs:
        embedding = self.body(x).mean(dim=(2, 3))
        return Outputs(self.head(embedding), embedding)
