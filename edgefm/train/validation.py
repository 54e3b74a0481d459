"""Validation of an epoch, by labels. Not the final evaluation and not a gate: one forward pass in the loop's precision."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ..runtime.decide import probabilities
from ..spec.preprocess import Preprocess
from ..spec.task import Task
from ..verify.metrics import task_metrics
from .images import Images
from .label_loss import class_weights, label_loss
from .precision import Precision
from .predict import all_outputs, predict
from .training import Validate, Validation


def validate_labels(
    images: Images, indexes: np.ndarray, labels: np.ndarray, spec: Preprocess, task: Task, device: torch.device
) -> Validate:
    """A validation that scores by AUC, ties by the weighted cross-entropy; by that alone where the AUC is not defined.

    Args:
        indexes: int64 `[N]`, the images to validate on. labels: of the whole data set.
    """
    if not len(indexes):
        return lambda module, precision: None
    truth = labels[indexes]
    weights = class_weights(truth, len(task.labels))

    def validate(module: nn.Module, precision: Precision) -> Validation:
        logits = all_outputs(predict(module, images, indexes, spec, device=device, precision=precision)).logits
        assert logits is not None
        loss = label_loss(logits, torch.from_numpy(truth.copy()), weights).item()
        metrics = task_metrics(probabilities(logits.numpy(), task), truth, task)
        auc = metrics["auc"]
        return Validation({"loss": loss} | metrics, (-loss,) if math.isnan(auc) else (auc, -loss))

    return validate
