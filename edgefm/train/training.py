"""What a training run is made of, as its verb puts it together. Not the loop that runs it: `loop.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ..spec.preprocess import Preprocess
from ..spec.recipe import TrainRecipe
from .images import Images
from .objective import Objective
from .precision import Precision
from .processes import ALONE, Processes


@dataclass(frozen=True)
class Validation:
    """How good an epoch is: `metrics` for people, by name; `score` for the choice of the best, larger is better."""

    metrics: dict[str, float]
    score: tuple[float, ...]


Validate = Callable[[nn.Module, Precision], Validation | None]  # None: there is nothing to validate on, the last epoch is best


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on what, towards what.

    Attributes:
        module: answers `Outputs`; its weights are float32. It is trained in place.
        train: int64 `[N]`, positions of the images to learn from.
        spec: the module's preprocessing.
        recipe: its batches have two images or more: a last one of one image joins the batch before it, a single image is shown
            twice.
        beside: weights that learn along and are thrown away at the end, such as the objective's projectors.
        processes: that work on it together, each with all of this; see `step.py`.
        scales: factor of the learning rate by name of a parameter of `module`, 0 to 1, else 1; 0 freezes it.
    """

    module: nn.Module
    images: Images
    train: np.ndarray
    spec: Preprocess
    objective: Objective
    validate: Validate
    recipe: TrainRecipe
    seed: int
    device: torch.device
    beside: nn.Module | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    processes: Processes = ALONE

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What learns, by its prefix in a checkpoint."""
        return {"model": self.module} | ({} if self.beside is None else {"beside": self.beside})
