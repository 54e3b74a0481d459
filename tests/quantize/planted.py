"""Models that int8 breaks in one known way each, and pictures on which they decide well. Not tests; subprocesses use them too.

A picture is 64 x 64, grey 200 everywhere but for its first column, whose value decides: "bright" from 128 on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgefm.models import LoadedModel, load_model
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.recipe import DataRecipe, QuantizeRecipe, Recipe
from edgefm.spec.task import Task, make_task

SIZE, GREY = 64, 200
TASK = make_task("binary", ("dark", "bright"))
RECIPE = Recipe(
    data=DataRecipe(val=0.8, test=0.05),
    quantize=QuantizeRecipe(engines=("onnx",), calibration_images=256, max_drop=0.05, max_flips=0.05),
)


class Planted(nn.Module):
    """`[N, 1, 64, 64]`, 0 to 1, to logits `[N, 2]`: a multiple of how far the first column is above the threshold.

    Args:
        kind: "bias": the rest of the picture holds the threshold up through many small weights, which int8 rounds away, and a
            bias could take that over. "logits": the same in three branches without any bias, so that only the logits are
            left to correct. "outlier": a bias holds the threshold up, but a useless channel drowns the useful one in int8.
    """

    def __init__(self, kind: str, task: Task) -> None:
        super().__init__()
        self.kind, self.task, self.labels = kind, task, task.labels
        self.preprocess = Preprocess(channels=1, size=SIZE, resize_to=SIZE, mean=(0.0,), std=(1.0,))
        row = torch.full((SIZE,), 0.0 if kind == "outlier" else -128 / 255 / ((SIZE - 1) * GREY / 255))
        row[0] = 1.0
        self.row = nn.Parameter(torch.stack([row, row] if task.kind == "multilabel" else [-row, row], dim=1))
        self.branches = nn.ParameterList([share * self.row.detach() for share in (1.1, 1.0, 0.9)])
        self.head = nn.Conv2d(2 if kind == "outlier" else 1, 2, (1, SIZE))
        self.channels = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            weight = self.row.T[:, None, None]
            if kind == "outlier":
                weight = torch.cat([torch.zeros_like(weight), weight], dim=1)
            self.head.weight.copy_(weight)
            self.head.bias.copy_(torch.tensor([128 / 255, -128 / 255]) if kind == "outlier" else torch.zeros(2))
            self.channels.weight.copy_(torch.tensor([2000.0, 1.0]).reshape(2, 1, 1, 1))
            self.channels.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "logits":
            a, b, c = (x @ branch for branch in self.branches)
            return 7 * (a + b + c).mean(dim=(1, 2))
        if self.kind == "outlier":
            x = self.channels(x).relu()
        return 20 * self.head(x).mean(dim=(2, 3))


def planted(kind: str, task: Task = TASK) -> LoadedModel:
    """See `Planted`."""
    return load_model(Planted(kind, task).eval())


def draw(folder: Path, count: int = 80) -> Path:
    """Pictures in a folder per class; their values are spread evenly."""
    values = np.random.default_rng(0).permutation(np.linspace(20, 235, count).round().astype(int))
    for index, value in enumerate(values):
        pixels = np.full((SIZE, SIZE), GREY, np.uint8)
        pixels[:, 0] = value
        pixels[-1, -1] = index  # so that no two are the same file
        place = folder / TASK.labels[int(value >= 128)] / f"{index:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return folder
