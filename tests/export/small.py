"""A small model for the tests of export and quantize, importable by their subprocesses too."""

from __future__ import annotations

import torch

from edgefm.models import LoadedModel, build_student
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Task, make_task

BINARY = make_task("binary", ("normal", "ill"))


def build_small(name: str = "test_vit", task: Task = BINARY, seed: int = 0, **preprocess: object) -> LoadedModel:
    """A timm model with random weights, in eval mode, with a head that tells pictures apart."""
    model = build_student(name, task=task, preprocess=Preprocess(**preprocess), seed=seed)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    for key, value in model.module.named_parameters():
        if task.labels and key.endswith(("head.weight", "classifier.weight", "fc.weight")):
            torch.nn.init.normal_(value, std=1.0)
    return model
