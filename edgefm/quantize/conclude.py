"""What a run found, as the bundle's manifest and evidence say it. Not the finding, and not how it is shown (`findings.py`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import onnx

from ..bench.latency import Timing
from ..bench.machine import machine
from ..export.draft import LIBRARIES, Draft, versions
from ..runtime.cpu import machine_id
from ..spec.manifest import Ancestor
from ..verify.metrics import defined
from .decide import judge, refusals
from .drops import drops
from .expected import with_expected
from .findings import Findings, evidence
from .halves import counted, halves
from .job import Job
from .trial import Outputs, Trial

BF16 = "openvino-bf16"


def identity(job: Job, proto: onnx.ModelProto) -> dict[str, Any]:
    """What decides the outcome of a run, but for the time it may take: two runs with the same find the same."""
    recipe = msgspec.to_builtins(job.recipe)
    del recipe["quantize"]["minutes"]
    return {
        "model": hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest(),
        "preprocess": msgspec.to_builtins(job.model.preprocess),
        "task": msgspec.to_builtins(job.model.task),
        "data": job.dataset.sha256(),
        "recipe": recipe,
        "versions": versions((*LIBRARIES, "nncf")),
        "machine": machine_id(),
    }


def findings_of(job: Job, others: Mapping[str, Outputs], trial: Trial, *, intervals: bool) -> Findings:
    """The rows of every way to run the model.

    Args:
        others: outputs on `val` of the torch model under "fp32", of the fp32 variants and of bf16.
        intervals: whether each row gets what it loses, with intervals; that takes a thousand draws.
    """
    task, truth = job.model.task, others["fp32"]
    rows = [judge(name, outputs, truth, task, job.labels) for name, outputs in others.items()] + [*trial.rows]
    lost: dict[str, Any] = {}
    if intervals:
        ways = {**others, **trial.outputs}
        lost = drops(ways, truth, task, job.labels, job.groups, seed=job.recipe.seed)
    return Findings(
        n=len(job.val),
        where=job.dataset.name,
        patients=None if job.dataset.patients is None else len(np.unique(job.groups)),
        kind=task.kind,
        rows=tuple(replace(row, drops=lost.get(row.name, {})) for row in rows),
    )


def concluded(draft: Draft, job: Job, findings: Findings, trial: Trial, refused: str | None) -> Draft:
    """The bundle with what was found of its variants, what int8 makes of golden inputs, and the data in its lineage."""
    known, recipe = {row.name: row for row in findings.rows}, msgspec.to_builtins(job.recipe)
    recipe["quantize"]["calibration_images"] = len(job.calibration)
    variants = []
    for variant in draft.manifest.variants:
        row = known[variant.name]
        found = evidence(row) | labels_used(job)
        if variant.precision == "int8" and variant.engine != "native":
            found |= trial.made
        variant = msgspec.structs.replace(variant, accuracy=defined(dict(row.metrics)), flips=row.flips, evidence=found)
        if BF16 in known and (variant.engine, variant.precision) == ("openvino", "fp32"):
            no = refusals(known[BF16], known["fp32"], job.model.task, job.recipe.quantize, findings.n)
            variant = msgspec.structs.replace(variant, bf16=not no)
        variants.append(variant)
    manifest = msgspec.structs.replace(
        draft.manifest,
        variants=tuple(variants),
        lineage=(*draft.manifest.lineage, Ancestor(role="data", name=job.dataset.name, sha256=job.dataset.sha256())),
        recipe=recipe,
        versions=versions((*LIBRARIES, "nncf")),
        refused=refused,
    )
    return with_expected(Draft(manifest=manifest, preprocess=draft.preprocess, entries=draft.entries), trial.graph, job.prepare)


def record(
    job: Job,
    trials: Sequence[Trial],
    native: Trial | None,
    best: Trial,
    gate: Mapping[str, Any],
    timing: Mapping[str, Timing],
    sentence: str,
) -> bytes:
    """`evidence/quantize.json`: every trial with the gate's reasons, which was kept, and the times on this machine.

    `rule`: what the decision rule was fitted to, and what of it stayed as it was; None without. `sets`: how many images and
    patients made the conformal quantile; None without.
    `chosen_among` says how many trials the kept one was chosen from, on the same images. `native`: the one trial of native
    int8, from which nothing was chosen. `gate`: see `proof.gate`.
    """
    listed = [*trials, *([] if native is None else [native])]
    found = {
        "trials": [{"name": trial.name, "excess": trial.excess, "reasons": trial.reasons} for trial in listed],
        "kept": best.name,
        "chosen_among": max(1, len(trials)),
        "gate": gate,
        "rule": dict(job.rule) or None,
        "sets": _sets(job) or None,
        "milliseconds": {name: each._asdict() for name, each in timing.items()},
        "fastest": sentence,
        "machine": machine(),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=1)


def labels_used(job: Job) -> dict[str, float]:
    """Whose labels a bundle's rule and its sets were made from, for the manifest's evidence of each variant: `rule_images`,
    `rule_patients`, `rule_thresholds_kept`, `sets_images` and `sets_patients`."""
    found: dict[str, float] = {}
    if job.rule:
        found = {f"rule_{name}": float(job.rule[name]) for name in ("images", "patients")}
        found["rule_thresholds_kept"] = float(len(job.rule["thresholds_kept"]))
    return found | {f"sets_{name}": float(count) for name, count in _sets(job).items()}


def _sets(job: Job) -> dict[str, int]:
    """How many images and patients the conformal quantile is from; empty where there is none."""
    if job.recipe.quantize.coverage is None:
        return {}
    return counted(job.dataset, halves(job.dataset, job.recipe)[1])
