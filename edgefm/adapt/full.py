"""`--method full`: every weight of a model learns the task, by the one training loop, deeper layers more slowly.

Not the loop (`train/`). The new classifier starts from small random weights; one for the very same labels that the model has
already (from `--method linear`, say) is kept, which is LP-FT of Kumar et al. 2022: first the probe, then the fine-tuning.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from ..errors import InputError
from ..models import LoadedModel, save_run
from ..models.base_dir import savable
from ..models.encoder import TimmEncoder
from ..models.probe import ProbeEncoder, base_of, with_classifier
from ..partial import write_atomically
from ..runtime.decide import probabilities
from ..train.checkpoint import State
from ..train.images import Images
from ..train.predict import all_outputs, predict
from ..train.processes import Processes
from ..train.progress import Report
from ..train.supervised import fit_labels
from ..verify.metrics import defined, task_metrics
from .job import Job
from .layers import rate_scales


def prepare_full(job: Job) -> LoadedModel:
    """The model with the classifier that will learn.

    Raises:
        InputError: a model whose weights cannot learn, or could not be saved.
    """
    model = job.model
    if model.kind == "frozen":
        raise InputError(f"{model.name} is a frozen graph, whose weights cannot learn", do="use --method linear")
    if job.tap is not None:
        raise InputError(
            f"--tap {job.tap} cuts the model short",
            expected="a whole model for --method full",
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
    if _same_task(job):
        return replace(model, task=job.task)
    return with_classifier(model, job.task, job.width, seed=job.recipe.seed)


def _same_task(job: Job) -> bool:
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
    recipe = msgspec.to_builtins(job.recipe)
    identity = {
        "method": "full",
        "recipe": {key: recipe[key] for key in ("seed", "data", "preprocess", "adapt")},
        "task": msgspec.to_builtins(job.task),  # which class is which is not in the hash of the data
        "model": job.model.sha256,
        "structure": job.model.structure,
        "data": lineage[-1].sha256,
    }
    state = fit_labels(
        model,
        images,
        folder,
        recipe=job.recipe.adapt,
        seed=job.recipe.seed,
        identity=identity,
        device=job.device,
        scales=rate_scales(model.module, job.recipe.adapt.layer_decay),
        processes=processes,
        resume=resume,
        report=report,
    )
    if processes.main:
        _evaluate(job, model, images, state, folder, report)
        save_run(folder, replace(model, module=model.module.cpu()), job.recipe, lineage)


def _start(job: Job, model: LoadedModel) -> str:
    weights = sum(weight.numel() for weight in model.module.parameters() if weight.requires_grad)
    start = "the classifier it has" if _same_task(job) else "a new classifier"
    return f"{weights / 1e6:.1f} million weights learn from {len(job.train)} images, with {start}"


def _evaluate(job: Job, model: LoadedModel, images: Images, state: State, folder: Path, report: Report) -> None:
    """evaluation.json: the best epoch's metrics on `val`, in fp32."""
    metrics: dict[str, float] = {}
    if len(job.val):
        asked = predict(model.module, images, job.val, model.preprocess, device=job.device, precision="fp32")
        logits = all_outputs(asked).logits
        assert logits is not None
        metrics = defined(task_metrics(probabilities(logits.numpy(), job.task), job.labels[job.val], job.task))
        words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
        report.line(f"epoch {state.best_epoch} is the best; on {len(job.val)} val images: {words or 'no metric is defined'}")
    found = {
        "method": "full",
        "best_epoch": state.best_epoch,
        "epochs": state.epochs,
        "images": {"train": len(job.train), "val": len(job.val)},
        "precision": {"train": state.precision, "val": "fp32"},
        "val": metrics,
    }
    write_atomically(folder / "evaluation.json", (json.dumps(found, indent=1) + "\n").encode())
