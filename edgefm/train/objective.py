"""What a training run asks of its target, and the simplest one: labels. Not distillation: `distill/` brings its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..models.loaded import Outputs
from ..spec.task import TaskKind
from .label_loss import class_weights, label_loss, label_weights

Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Batch:
    """What the loop shows the model at once: a whole batch, or a piece of one.

    Attributes:
        indexes: int64 `[N]`, positions in the data set. view: which view of them.
        whole: int64 `[M]`, the positions of the whole batch that this is a piece of, over all pieces and processes.
    """

    indexes: np.ndarray
    view: int
    whole: np.ndarray


class Objective(Protocol):
    """Something to learn.

    A batch may be cut into pieces. The loop adds them up by their share of the images, so a term that is a mean over images
    is the same whether or not its batch was cut. What else it is divided by must come from `Batch.whole`, not from the piece.
    """

    def prepare(self, view: int, progress: Progress) -> None:
        """Called before each epoch with the view it will show."""

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        """The weighted terms of the loss, float32 scalars by name, each a mean over the images of `batch`; their sum is what is
        minimised. `outputs` may be bfloat16."""


class LabelObjective:
    """Cross-entropy on labels, rare classes weighted up; the weights of a whole batch have mean 1.

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
        whole = label_weights(self._labels(batch.whole), self.class_weights).mean()
        loss = label_loss(outputs.logits.float(), self._labels(batch.indexes), self.class_weights, whole)
        return {"labels": self.weight * loss}

    def _labels(self, indexes: np.ndarray) -> torch.Tensor:
        return self.labels[torch.from_numpy(indexes).to(self.labels.device)]
