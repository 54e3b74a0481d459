"""The verb `quantize`: fp32 held to the model, int8 measured against fp32 on real images, then one bundle or its refusal.

    model ─▶ ONNX ─▶ fp32 draft, through parity ─▶ int8 by NNCF on `calibrate` ─▶ every variant on `val` ─▶ gate ─▶ bundle

Not NNCF's settings (`nncf.py`) and not the gate's rule (`decide.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import GateRefused
from ..export.draft import LIBRARIES, Draft, Trial, new_variant, versions, with_variants
from ..export.fp32 import Report, held_draft
from ..export.golden import golden, reference
from ..export.onnx import export_onnx, onnx_entries
from ..export.openvino import openvino_entries
from ..partial import check_output
from ..runtime.cpu import cpu_features
from ..spec.manifest import Ancestor, Manifest, Variant
from ..spec.recipe import Recipe
from ..verify.metrics import defined
from ..verify.parity import Predictor
from .decide import Findings, Row, judge, refusals
from .job import Job, load_job
from .measure import measure
from .nncf import quantize_onnx
from .plan import plan

BF16 = "openvino-bf16"


def quantize(
    model: Any,
    data: str | Path,
    out: str | Path,
    *,
    recipe: Recipe,
    licence: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    dry_run: bool = False,
    report: Report = print,
) -> Path:
    """Make a model int8 and write a bundle with its fp32 and int8 variants, unless decisions change.

    Args:
        model: any form of MODEL, or a `LoadedModel`.
        data: any form of DATA. Its `calibrate` split sets the ranges, its `val` split is what the gate looks at. Labels are
            optional: without them the gate has the flipped decisions and the cosine to the fp32 embedding.
        out: the .efm file to write, at the end and at once.
        recipe: `quantize` and `data` of it, `preprocess`, and the seed of the calibration choice.
        licence, trust_remote_code, force: as for `export`.
        dry_run: report what would be done, with minutes, disk and memory; write nothing.
        report: takes a line at a time, the table of what int8 costs before anything is written.

    Returns:
        `out`.

    Raises:
        InputError: anything about model, data or output that cannot be used, an empty `calibrate` split among them.
        ParityError: an fp32 variant does not answer as the model does.
        GateRefused: the gate said no; `out` is there, marked as refused with the reason. Its `findings` hold the table.
    """
    out = Path(out)
    check_output(out, force, ".efm")
    job = load_job(model, data, recipe, licence=licence, trust_remote_code=trust_remote_code, look=not dry_run)
    for line in job.notes():
        report(line)
    if dry_run:
        for line in plan(job):
            report(line)
        return out
    draft = _draft(job, out, report)
    with draft.tried(out) as trial:
        findings = _findings(job, trial, draft.manifest.variants)
    for line in findings.lines():
        report(line)
    reasons = _reasons(job, findings, [row for row in findings.rows if row.name.endswith("int8")])
    draft = Draft(
        manifest=_concluded(job, draft.manifest, findings, "; ".join(reasons) or None),
        preprocess=draft.preprocess,
        entries=draft.entries,
    )
    identity = draft.write(out, force=force)
    if reasons:
        error = GateRefused(
            f"{out} is written, but marked as refused: {'; '.join(reasons)}",
            do="train the student longer or take a larger one, or state what may be lost with --max-drop and --max-flips",
        )
        error.findings = findings  # type: ignore[attr-defined]
        raise error
    report(f"{out} is written, {out.stat().st_size / 1e6:.1f} MB, id {identity[:12]}: the gate says yes")
    return out


def _draft(job: Job, out: Path, report: Report) -> Draft:
    """The bundle with fp32 variants held to the model, and int8 variants of which nothing is known yet."""
    model, engines = job.model, job.recipe.quantize.engines
    proto = export_onnx(model)
    draft = held_draft(model, proto, golden(model), out, engines=engines, report=report)
    report(job.calibrated())
    small = quantize_onnx(proto, job.calibration)
    variants, entries = list(draft.manifest.variants), dict[str, bytes]()
    makers = {"onnx": onnx_entries, "openvino": openvino_entries}
    for engine in engines:
        name = f"{engine}-int8"
        made = makers[engine](small, f"variants/{name}")
        entries.update(made)
        variants.append(new_variant(name, model, proto, tuple(made)))
    return with_variants(draft, tuple(variants), entries)


def _findings(job: Job, trial: Trial, variants: tuple[Variant, ...]) -> Findings:
    """Every way to run the model, on the `val` images."""
    predictors: dict[str, Predictor] = {"fp32": lambda batch: reference(job.model, batch)}
    predictors |= {variant.name: trial.engine(variant) for variant in variants}
    half = [variant for variant in variants if (variant.engine, variant.precision) == ("openvino", "fp32")]
    if half and job.labels is not None and runs_bf16():
        predictors[BF16] = trial.engine(half[0], precision="bf16")
    measured = measure(job.dataset, job.val, job.prepare, predictors)
    truth = measured["fp32"].outputs
    rows = tuple(
        judge(name, found.outputs, truth, job.model.task, job.labels, found.milliseconds) for name, found in measured.items()
    )
    return Findings(n=len(job.val), where=job.dataset.name, rows=rows)


def _reasons(job: Job, findings: Findings, rows: list[Row]) -> list[str]:
    """Why the gate says no to any of these rows, each reason under the row's name."""
    task, recipe = job.model.task, job.recipe.quantize
    truth = findings.row("fp32")
    return [f"{row.name}: {reason}" for row in rows for reason in refusals(row, truth, task, recipe, findings.n)]


def _concluded(job: Job, manifest: Manifest, findings: Findings, refused: str | None) -> Manifest:
    """The manifest with what was found, and with the data in its lineage."""
    known = {row.name: row for row in findings.rows}
    variants = []
    for variant in manifest.variants:
        row = known[variant.name]
        variant = replace(variant, accuracy=defined(dict(row.metrics)), flips=row.flips)
        if BF16 in known and (variant.engine, variant.precision) == ("openvino", "fp32"):
            variant = replace(variant, bf16=not _reasons(job, findings, [known[BF16]]))
        variants.append(variant)
    recipe = msgspec.to_builtins(job.recipe)
    recipe["quantize"]["calibration_images"] = len(job.calibration)
    return replace(
        manifest,
        variants=tuple(variants),
        lineage=(*manifest.lineage, Ancestor(role="data", name=job.dataset.name, sha256=job.dataset.sha256())),
        recipe=recipe,
        versions=versions((*LIBRARIES, "nncf")),
        refused=refused,
    )


def runs_bf16() -> bool:
    """Whether this processor computes in bf16."""
    features = cpu_features()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
