"""What `full` and `lora` share: a model that is ready learns the labels of a job. Not the loop (`train/`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..models import LoadedModel
from ..train.checkpoint import State
from ..train.images import Images
from ..train.processes import Processes
from ..train.progress import Report
from ..train.supervised import fit_labels
from .job import Job


def learn(
    job: Job,
    model: LoadedModel,
    images: Images,
    folder: Path,
    method: str,
    data: str,
    processes: Processes,
    *,
    resume: bool,
    report: Report,
    scales: Mapping[str, float] = {},
    more: Mapping[str, Any] = {},
) -> State:
    """Train `model` in place.

    Args:
        data: the hash of the data, which the caller has, since it reads every file.
        more: what a resumed run must share beside method, recipe, task, model and data. The others: see `fit_labels`.
    """
    recipe = msgspec.to_builtins(job.recipe)
    identity = {
        "method": method,
        "recipe": {key: recipe[key] for key in ("seed", "data", "preprocess", "adapt")},
        "task": msgspec.to_builtins(job.task),  # which class is which is not in the hash of the data
        **more,
        "model": job.model.sha256,
        "structure": job.model.structure,
        "data": data,
    }
    return fit_labels(
        model,
        images,
        folder,
        recipe=job.recipe.adapt,
        seed=job.recipe.seed,
        identity=identity,
        device=job.device,
        scales=scales,
        processes=processes,
        resume=resume,
        report=report,
    )
