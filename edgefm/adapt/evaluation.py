"""evaluation.json of a model that learned by the training loop: its metrics on the images of `val`, in fp32. No gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..models import LoadedModel
from ..partial import write_atomically
from ..runtime.decide import probabilities
from ..train.checkpoint import State
from ..train.images import Images
from ..train.predict import all_outputs, predict
from ..verify.metrics import defined, task_metrics
from .job import Job


def evaluate(job: Job, model: LoadedModel, module: nn.Module, images: Images, val: np.ndarray) -> dict[str, float]:
    """The metrics that these images define; none of no image.

    Args:
        module: answers as `model`, on the job's device. val: int64 `[N]`.
    """
    if not len(val):
        return {}
    asked = predict(module, images, val, model.preprocess, device=job.device, precision="fp32")
    logits = all_outputs(asked).logits
    assert logits is not None
    return defined(task_metrics(probabilities(logits.numpy(), job.task), job.labels[val], job.task))


def told(metrics: dict[str, float]) -> str:
    """Metrics in words."""
    words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
    return words or "no metric is defined"


def write_evaluation(
    folder: Path, method: str, state: State, train: int, val: int, metrics: dict[str, float], **more: Any
) -> None:
    """Write evaluation.json. `train`, `val`: how many images. `more`: further entries."""
    found = {
        "method": method,
        "best_epoch": state.best_epoch,
        "epochs": state.epochs,
        "images": {"train": train, "val": val},
        "precision": {"train": state.precision, "val": "fp32"},
        "val": metrics,
        **more,
    }
    write_atomically(folder / "evaluation.json", (json.dumps(found, indent=1) + "\n").encode())
