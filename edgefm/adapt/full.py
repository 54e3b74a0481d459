"""`--method full`: every weight of a model learns the task, by the one training loop, deeper layers more slowly.

Not the loop (`train/`). The new classifier starts from small random weights; one for the very same labels that the model has
already (from `--method linear`, say) is kept, which is LP-FT of Kumar et al. 2022: first the probe, then the fine-tuning.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import InputError
from ..models import LoadedModel, save_run
from ..models.base_dir import savable
from ..models.encoder import TimmEncoder
from ..models.probe import ProbeEncoder, base_of, with_classifier
from ..train.images import Images
from ..train.processes import Processes
from ..train.progress import Report
from .checkpointing import checkpoint_blocks
from .evaluation import evaluate, told, write_evaluation
from .job import Job
from .layers import rate_scales
from .learn import learn


def prepare_full(job: Job, method: str = "full") -> LoadedModel:
    """The model with the classifier that will learn.

    Args:
        method: that asks: `full`, or one that changes the model as that does.

    Raises:
        InputError: a model whose weights cannot learn, or could not be saved.
    """
    model = job.model
    if model.kind == "frozen":
        raise InputError(f"{model.name} is a frozen graph, whose weights cannot learn", do="use --method linear")
    if job.tap is not None:
        raise InputError(
            f"--tap {job.tap} cuts the model short",
            expected=f"a whole model for --method {method}",
            do="leave --tap out, or use --method linear",
        )
    if not savable(base_of(model.module)):
        raise InputError(
            f"{model.name} has no layout that its changed weights could be saved in",
            expected="a model of timm, transformers or open_clip",
            do="use --method linear, which leaves it as it is, or give it as a model folder",
        )
    if isinstance(job.source, torch.nn.Module):
        model = replace(model, module=copy.deepcopy(model.module))  # the user's own module stays as it is
    if same_task(job):
        model = replace(model, task=job.task)
    else:
        model = with_classifier(model, job.task, job.width, seed=job.recipe.seed)
    if job.recipe.adapt.checkpointing:
        checkpoint_blocks(model.module, model.name)
    return model


def same_task(job: Job) -> bool:
    """Whether the model has a classifier for these very labels."""
    mine = job.model.task
    return isinstance(job.model.module, (TimmEncoder, ProbeEncoder)) and (mine.kind, mine.labels) == (
        job.task.kind,
        job.task.labels,
    )


def full(job: Job, folder: Path, model: LoadedModel, processes: Processes, *, resume: bool, report: Report) -> None:
    """Train and write the run directory into `folder`.

    Args:
        model: from `prepare_full`. It is trained in place.
    """
    images, lineage = Images(job.dataset), job.lineage()
    report.line(_start(job, model))
    scales = rate_scales(model.module, job.recipe.adapt.layer_decay)
    state = learn(
        job, model, images, folder, "full", lineage[-1].sha256, processes, resume=resume, report=report, scales=scales
    )
    if processes.main:
        metrics = evaluate(job, model, model.module, images, job.val)
        if len(job.val):
            report.line(f"epoch {state.best_epoch} is the best; on {len(job.val)} val images: {told(metrics)}")
        write_evaluation(folder, "full", state, len(job.train), len(job.val), metrics)
        save_run(folder, replace(model, module=model.module.cpu()), job.recipe, lineage)


def _start(job: Job, model: LoadedModel) -> str:
    weights = sum(weight.numel() for weight in model.module.parameters() if weight.requires_grad)
    start = "the classifier it has" if same_task(job) else "a new classifier"
    return f"{weights / 1e6:.1f} million weights learn from {len(job.train)} images, with {start}"
