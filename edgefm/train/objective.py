"""What a training run asks of its target, and the simplest one: labels. Not distillation: `distill/` brings its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..models.loaded import Outputs
from ..spec.task import TaskKind
from .label_loss import class_weights, label_loss

Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Batch:
    """What the loop shows the model. `indexes`: int64 `[N]`, positions in the data set. `view`: which view of them."""

    indexes: np.ndarray
    view: int


class Objective(Protocol):
    """Something to learn."""

    def prepare(self, view: int, progress: Progress) -> None:
        """Called before each epoch with the view it will show."""

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The weighted terms of the loss, float32 scalars by name; their sum is what is minimised."""


class LabelObjective:
    """Cross-entropy on labels, rare classes weighted up.

    Args:
        labels: of the whole data set, int64 `[N]`, or uint8 `[N, K]` for multilabel. train: positions that are learned from.
        classes: K. weight: of the term.
    """

    def __init__(
        self, labels: np.ndarray, train: np.ndarray, kind: TaskKind, classes: int, device: torch.device, weight: float = 1.0
    ) -> None:
        self.kind = kind
        self.weight = weight
        self.labels = torch.from_numpy(labels.copy()).to(device)
        self.class_weights = class_weights(labels[train], classes).to(device)

    def prepare(self, view: int, progress: Progress) -> None:
        """Nothing: labels are there already."""

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The term `labels`."""
        assert outputs.logits is not None
        chosen = self.labels[torch.from_numpy(batch.indexes).to(self.labels.device)]
        return {"labels": self.weight * label_loss(outputs.logits.float(), chosen, self.class_weights)}
