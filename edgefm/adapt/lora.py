"""`--method lora` and `--method qlora`: the model stays as it is, low-rank adapters and a classifier learn the task.

Not the adapters (`adapters.py`) and not the loop (`train/`). Hu et al. 2021 (LoRA); with an NF4 or int8 base Dettmers et al.
2023 (QLoRA). A finished run holds the merged model, in float32, and the adapter beside it in PEFT's format:

    OUT/                            what `save_run` writes of the merged model, evaluation.json, metrics.jsonl
    OUT/adapters/default/           adapter_config.json, adapter_model.safetensors

    with adapt.lora.by: site
    OUT/evaluation.json, metrics.jsonl
    OUT/SITE/                       for each site: a run directory of its own, merged; its adapter in OUT/SITE/adapters/SITE/

Adapters of several sites learn together, each from its own images; the classifier is one, from all. The best epoch is the best
over the val images of all. Statistics of BatchNorm, where a model has such layers, move as with `full`: the merged model holds
them, the adapter does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ..errors import InputError
from ..models import LoadedModel, save_run
from ..models.peft_format import save_adapter
from ..models.probe_dir import lasting_source
from ..spec.manifest import Ancestor
from ..spec.recipe import LoraRecipe
from ..train.checkpoint import State
from ..train.images import Images
from ..train.precision import to_device
from ..train.processes import Processes
from ..train.progress import Report
from .adapters import Layers, learning, place, read_out
from .evaluation import evaluate, told, write_evaluation
from .frozen_base import Kind, check_quantizer
from .full import prepare_full, same_task
from .job import Job
from .learn import learn
from .lora_linear import Chosen
from .merge import check_merged, merge
from .sites import Sites, find_sites


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A model with adapters in it.

    Attributes:
        model: its module answers as before, until it learns. layers: the adapted ones. sites: who uses which adapter.
        method, kind: as asked for: of the base.
        whole: bytes of the merged model in float32.
    """

    model: LoadedModel
    layers: Layers
    sites: Sites
    method: Literal["lora", "qlora"]
    kind: Kind
    whole: int


def prepare_lora(job: Job, method: Literal["lora", "qlora"]) -> Learner:
    """The model with adapters and the classifier that will learn.

    Raises:
        InputError: a model whose merged weights could not be saved; target layers, rank or sites that are not there; blocks
            that cannot choose among several adapters.
        MissingExtra: an NF4 base without bitsandbytes.
    """
    recipe = job.recipe.adapt.lora
    kind: Kind = recipe.base if method == "qlora" else "float"
    check_quantizer(kind)
    sites = find_sites(job)
    model = prepare_full(job, method)
    whole = 4 * sum(value.numel() for value in model.module.state_dict().values())
    chosen, num = sites.chosen(), len(sites.names)
    layers = place(model.module, recipe, model.name, kind=kind, num=num, chosen=chosen, seed=job.recipe.seed, device=job.device)
    if chosen is not None:
        _try(model, chosen, job)
        model.module.by_image = chosen  # type: ignore[assignment]
    return Learner(model=model, layers=layers, sites=sites, method=method, kind=kind, whole=whole)


@torch.no_grad()
def _try(model: LoadedModel, chosen: Chosen, job: Job) -> None:
    """One empty image through its adapters, before hours of work: not every block can choose (`LoraLinear.weight`)."""
    spec = model.preprocess
    to_device(model.module, job.device).eval()
    chosen(job.train[:1], job.device)
    model.module(torch.zeros(1, spec.channels, spec.size, spec.size, device=job.device))


def lora(job: Job, folder: Path, learner: Learner, processes: Processes, *, resume: bool, report: Report) -> None:
    """Train, merge, and write the run directory into `folder`.

    Args:
        learner: from `prepare_lora`. It is trained in place.

    Raises:
        ParityError: a merged model answers otherwise than its un-merged one.
    """
    images, lineage, method = Images(job.dataset), job.lineage(), learner.method
    report.line(_start(job, learner))
    sites = {"sites": learner.sites.sha256()}
    data = lineage[-1].sha256
    state = learn(job, learner.model, images, folder, method, data, processes, resume=resume, report=report, more=sites)
    if processes.main:
        _finish(job, learner, images, lineage, state, folder, report)


def _start(job: Job, learner: Learner) -> str:
    layers, names = list(learner.layers.values()), learner.sites.names
    listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    many = "an adapter" if learner.sites.column is None else f"{len(names)} adapters ({listed}), each"
    start = "the classifier it has" if same_task(job) else "a new classifier"
    base = "" if learner.kind == "float" else f"; the base is {learner.kind}"
    if learner.method == "lora" and job.recipe.adapt.lora.base != LoraRecipe().base:
        base = "; the base stays as it is: adapt.lora.base is for --method qlora"
    return (
        f"{len(job.train)} images teach {many} of {learning(layers) / 1e6:.2f} million weights on {len(layers)} layers, "
        f"rank {job.recipe.adapt.lora.rank}, and {start}{base}"
    )


def _finish(
    job: Job,
    learner: Learner,
    images: Images,
    lineage: tuple[Ancestor, ...],
    state: State,
    folder: Path,
    report: Report,
) -> None:
    """Merge, prove and save each adapter; evaluation.json."""
    sites, summary = learner.sites, {}
    base = _source(job)
    for number, name in enumerate(sites.names):
        train, val = sites.rows(job.train, number), sites.rows(job.val, number)
        plain = merge(learner.model.module, number).eval()
        difference = check_merged(learner.model, plain, images, val if len(val) else train, job.device)
        metrics = evaluate(job, learner.model, plain, images, val)
        of = "" if sites.column is None else f"{name}: "
        report.line(f"{of}epoch {state.best_epoch} is the best; on {len(val)} val images: {told(metrics)}")
        out = folder if sites.column is None else folder / name
        (out / "adapters" / name).mkdir(parents=True, exist_ok=True)
        adapter = read_out(learner.model.module, job.recipe.adapt.lora, number, base)
        save_adapter(out / "adapters" / name, adapter)
        facts = {"layers": len(learner.layers), "weights": learning(list(learner.layers.values())), "base": learner.kind}
        facts |= {"merged_difference": float(f"{difference:.1e}")}
        write_evaluation(out, learner.method, state, len(train), len(val), metrics, adapter=facts)
        save_run(out, replace(learner.model, module=plain.cpu()), job.recipe, lineage)
        learner.model.module.to(job.device)  # `plain` shares with it what has no adapter
        summary[name] = {"images": {"train": len(train), "val": len(val)}, "val": metrics}
    if sites.column is not None:
        write_evaluation(folder, learner.method, state, len(job.train), len(job.val), {}, by=sites.column, adapters=summary)


def _source(job: Job) -> str | None:
    """Where the base is, if anything on disk can say it."""
    try:
        return lasting_source(job.source, job.tap, job.model).source
    except InputError:
        return None
