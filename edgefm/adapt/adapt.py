"""The verb: load model and data, let it learn the task by one of four methods, write a run directory.

Not the methods: `linear.py`, `lora.py` (lora and qlora) and `full.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..errors import InputError
from ..partial import check_output_folder, partial_folder
from ..spec.recipe import Recipe
from ..train.checkpoint import STATE
from ..train.processes import join
from ..train.progress import Report, no_bar, silent
from .full import full, prepare_full
from .job import load_job
from .linear import linear, prepare_linear
from .lora import lora, prepare_lora
from .plan import plan_full, plan_linear, plan_lora

Method = Literal["linear", "lora", "qlora", "full"]
RATES = {"lora": 1e-3, "qlora": 1e-3, "full": 1e-4}  # where the recipe leaves it open


def adapt(
    model: Any,
    data: str | Path,
    out: Path,
    *,
    method: Method,
    recipe: Recipe,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    device: str = "cpu",
    tap: str | None = None,
    licence: str | None = None,
    trust_remote_code: bool = False,
    report: Callable[[str], None] = silent,
    bar: Callable[[float, float], None] = no_bar,
) -> Path:
    """Make a teacher of the task that the labels of `data` state, out of `model`.

    `linear` leaves the model as it is and fits a classifier on its features; C is chosen on `val`. `lora` leaves its weights as
    they are and trains low-rank adapters beside them, `qlora` the same with these weights in NF4 or int8. `full` changes every
    weight. These keep the epoch that is best on `val`, or the last one without such images.

    Args:
        model: any MODEL; for all but `linear` one of timm, transformers or open_clip.
        data: with labels. Those of `calibrate` and `test` are not looked at.
        out: the run directory to write. A timm model is in it whole, as is any model that was changed; of others it names the
            place, and the model must stay there. With `adapt.lora.by` a folder of run directories, one for each value.
        resume: go on with `out`.partial: from the features that are there, or from the last checkpoint.
        dry_run: report what would be done, with minutes, disk and memory; write nothing.
        tap, licence, trust_remote_code: see `models.load_model`.
        report: takes a line at a time. bar: takes the share done, 0 to 1, and the seconds left.

    Returns:
        `out`: the run directory with `evaluation.json` and `metrics.jsonl` beside what `save_run` writes.

    Raises:
        InputError: no labels, a class without images in `train`, no `val` to choose C by, or anything else about model, data or
            output that cannot be used; features or a loss that are not finite.
        MissingExtra: an NF4 base without bitsandbytes. ParityError: a merged model answers otherwise than with its adapter.
    """
    out = Path(out)
    check_output_folder(out, force)
    options = {"tap": tap, "licence": licence, "trust_remote_code": trust_remote_code, "device": device}
    job = load_job(model, data, _settled(recipe, method), **options, look=not dry_run)  # type: ignore[arg-type]
    if method == "linear":
        target, base = prepare_linear(job)
        if base is not None and base.source == str(out.resolve()):
            raise InputError(f"the new run stands on {out}, which it would replace", do="choose another -o")
        for line in (*job.notes, *(plan_linear(job, target, base) if dry_run else ())):
            report(line)
        if not dry_run:
            with partial_folder(out, force=force, resume=resume) as folder:
                linear(job, folder, target, base, Report(report, bar))
            shutil.rmtree(out / STATE)
        return out
    learner: Any = prepare_full(job) if method == "full" else prepare_lora(job, method)
    processes = join(job.device)
    told = Report(report, bar) if processes.main else Report()
    plan: Any = plan_full if method == "full" else plan_lora
    for line in (*job.notes, *(plan(job, learner) if dry_run else ())):
        told.line(line)
    if dry_run:
        return out
    with processes.run_folder(out, force=force, resume=resume) as folder:
        learn: Any = full if method == "full" else lora
        learn(job, folder, learner, processes, resume=resume, report=told)
    if processes.main:
        shutil.rmtree(out / STATE)
    return out


def _settled(recipe: Recipe, method: Method) -> Recipe:
    """The recipe with the method's own learning rate, where it states none."""
    if recipe.adapt.lr is not None or method not in RATES:
        return recipe
    return msgspec.structs.replace(recipe, adapt=msgspec.structs.replace(recipe.adapt, lr=RATES[method]))
