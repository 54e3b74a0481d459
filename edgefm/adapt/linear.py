"""`--method linear`: a frozen model's features, a logistic regression on them, and both as one run directory.

Not the regression (`probe.py`) and not the features (`features.py`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from ..errors import InputError
from ..models import LoadedModel, save_run
from ..models.base_dir import savable
from ..models.encoder import TimmEncoder
from ..models.probe import base_of, classifier_of, with_classifier
from ..models.probe_dir import Base, lasting_source
from ..partial import write_atomically
from ..train.images import Images
from ..train.precision import choose_precision, to_device
from ..train.processes import started
from ..train.progress import Report
from .features import Extraction
from .job import Job
from .probe import GRID, Probe, fit_probe


def prepare_linear(job: Job) -> tuple[LoadedModel, Base | None]:
    """The model with an empty classifier, and what a run directory calls it if it does not hold it.

    Raises:
        InputError: no validation images, several processes, or a module that cannot be loaded again.
    """
    job.dataset.of("val")
    if started() > 1:
        raise InputError(f"{started()} processes were started", expected="one for --method linear", do="start it alone")
    target = with_classifier(job.model, job.task, job.width)
    module = base_of(target.module)
    whole = isinstance(module, TimmEncoder) and savable(module)
    return target, None if whole else lasting_source(job.source, job.tap, job.model)


def linear(job: Job, folder: Path, target: LoadedModel, base: Base | None, report: Report) -> None:
    """Write the run directory into `folder`, which may hold features of a run that was stopped.

    Args:
        target, base: from `prepare_linear`.
    """
    lineage = job.lineage()
    model, device = job.model, job.device
    identity = {
        "method": "linear",
        "recipe": {"data": msgspec.to_builtins(job.recipe.data)},  # the frame of a file is not in the hash of the data
        "task": msgspec.to_builtins(job.task),
        "model": model.sha256 if base is None else base.sha256,
        "structure": model.structure,
        "tap": job.tap,
        "preprocess": msgspec.to_builtins(model.preprocess),
        "data": lineage[-1].sha256,
    }
    if model.kind == "torch":
        to_device(model.module, device)
    quick = choose_precision(model.module, device, training=False)
    images = Images(job.dataset, keep=0)  # each is looked at once
    extraction = Extraction(model=model, images=images, folder=folder, identity=identity, device=device, bar=report.bar)
    report.line(f"features of {len(job.train)} images to learn from and {len(job.val)} to choose by, {job.width} wide")
    # What decides is computed as the model will answer, in fp32; to learn from, the quicker arithmetic is as good.
    found = extraction.features({"train": (job.train, quick), "val": (job.val, "fp32")})
    probe = fit_probe((found["train"], job.labels[job.train]), (found["val"], job.labels[job.val]), job.task, _progress(report))
    layer = classifier_of(target.module)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight))
        layer.bias.copy_(torch.from_numpy(probe.bias))
    _tell(job, probe, report)
    _write(job, probe, quick, folder)
    save_run(folder, replace(target, module=target.module.cpu()), job.recipe, lineage, base)


def _progress(report: Report) -> Any:
    return lambda done, count: report.bar(done / count, float("nan"))


def _tell(job: Job, probe: Probe, report: Report) -> None:
    chosen = probe.chosen
    words = ", ".join(f"{name.replace('_', ' ')} {chosen[name]:.4f}" for name in ("auc", "balanced_accuracy") if name in chosen)
    report.line(f"C = {probe.C:.2g} is the best of {len(GRID)} on {len(job.val)} val images: {words or 'no metric is defined'}")
    if not chosen["converged"]:
        report.line("its regression had not settled: more images, or a model with fewer features, would help")


def _write(job: Job, probe: Probe, precision: str, folder: Path) -> None:
    found = {
        "method": "linear",
        "features": job.width,
        "images": {"train": len(job.train), "val": len(job.val)},
        "precision": {"train": precision, "val": "fp32"},
        "C": probe.C,
        "val": {name: value for name, value in probe.chosen.items() if name not in ("C", "steps", "converged")},
        "trials": probe.trials,
    }
    write_atomically(folder / "evaluation.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(trial) + "\n" for trial in probe.trials).encode())
