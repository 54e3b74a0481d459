"""The verb `quantize`: fp32 held to the model, int8 measured against fp32 on real images, then one bundle or its refusal.

    model ─▶ ONNX ─▶ fp32 draft, through parity ─▶ search: int8 on `calibrate`, gate on `val` ─▶ what passed, timed ─▶ bundle

Not NNCF's settings (`nncf.py`), not the gate's rule (`decide.py`) and not what is tried in which order (`search.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from ..bench.latency import Timing
from ..bundle import append_evidence
from ..errors import GateRefused
from ..export.draft import Draft
from ..export.draft import Trial as Copy
from ..export.fp32 import Report, held_draft
from ..export.golden import golden, reference
from ..export.onnx import export_onnx
from ..partial import check_output, working_folder
from ..runtime.cpu import runs_bf16
from ..spec.recipe import Recipe
from ..train.progress import no_bar
from ..verify.parity import Predictor
from .calibrate import SPLIT
from .conclude import BF16, concluded, findings_of, identity, record
from .conformal import fitted
from .halves import halves
from .job import Job, load_job
from .kept import Kept
from .measure import measure
from .plan import plan
from .proof import chosen, gate, one_answer, unproved, yes
from .rule import with_rule
from .search import Search
from .speed import fastest, speeds
from .trial import Trial, beside_native, native_trial, with_int8


def quantize(
    model: Any,
    data: str | Path,
    out: str | Path,
    *,
    recipe: Recipe,
    licence: str | None = None,
    trust_remote_code: bool = False,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    report: Report = print,
    bar: Callable[[float, float], None] = no_bar,
) -> Path:
    """Make a model int8 and write a bundle with its fp32 and int8 variants, unless decisions change.

    Args:
        model: any form of MODEL, or a `LoadedModel`.
        data: any form of DATA. Its `calibrate` split sets the ranges, its `val` split is what the gate looks at. Labels are
            optional: without them the gate has the flipped decisions and the cosine to the fp32 embedding.
        out: the .efm file to write, at the end and at once. While other int8 graphs are tried, `OUT.partial` holds what was
            found, the best bundle so far (`best.efm`, marked as refused) among it.
        recipe: `quantize` and `data` of it, `preprocess`, and the seed of the calibration choice.
        licence, trust_remote_code, force: as for `export`.
        resume: take up what `OUT.partial` holds, the minutes it has spent among it. The end is the same as if the run had not
            been stopped, unless its minutes end the search: how many trials fit in them is never the same twice.
        dry_run: report what would be done, with minutes, disk and memory; write nothing.
        report: takes a line at a time, the table of what int8 costs before anything is written.
        bar: takes the share done of the images that are being answered, 0 to 1, and the seconds left; from 0 for each trial.

    Returns:
        `out`.

    Raises:
        InputError: anything about model, data or output that cannot be used, an empty `calibrate` split among them.
        ParityError: an fp32 variant does not answer as the model does.
        GateRefused: the gate said no to all int8 variants; `out` is there, with the best that was found, marked as refused with
            the reason. Its `findings` hold the table.
    """
    out = Path(out)
    check_output(out, force, ".efm")
    job = load_job(model, data, recipe, licence=licence, trust_remote_code=trust_remote_code, look=not dry_run)
    job = replace(job, bar=bar)
    for line in job.notes():
        report(line)
    if dry_run:
        for line in plan(job):
            report(line)
        return out
    with working_folder(out, force=force, resume=resume) as folder:
        try:
            refusal = _quantized(job, folder, out, report)
        except BaseException:
            if not any((folder / "trials").glob("*.npz")):  # nothing that a resumed run could take up
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)
    if refusal is not None:
        raise refusal
    return out


def _quantized(job: Job, folder: Path, out: Path, report: Report) -> GateRefused | None:
    """The run itself, in its working folder; the refusal if the gate says no."""
    if job.recipe.quantize.calibrate:
        job, said = with_rule(job)
        report(said)
    proto, engines = export_onnx(job.model), job.recipe.quantize.engines
    kept = Kept(folder, identity(job, proto))
    draft = held_draft(job.model, proto, golden(job.model), kept.best, engines=engines, report=report)
    others = _others(job, draft, kept.best)
    native = native_trial(draft, job, proto, others["fp32"], kept.best) if "native" in engines else None

    def save(searched: Trial) -> None:
        trial = beside_native(searched, native)
        why = f"the search was not finished; the best so far ({trial.name}): {trial.why()}"
        whole = with_int8(draft, job, proto, trial.graph, engines)
        concluded(whole, job, findings_of(job, others, trial, intervals=False), trial, why).write(kept.best, force=True)
        report(f"the best so far is kept as {kept.best}")

    search = Search(job, proto, draft, others["fp32"], kept, save, report)
    if job.graph_engines:
        best = beside_native(search.run(), native)
    else:
        assert native is not None
        best = native
        report(job.calibrated())
    timing = _speeds(job, with_int8(draft, job, proto, best.graph, engines), kept.best)
    findings = findings_of(job, others, best, intervals=True).timed({name: each.p50 for name, each in timing.items()})
    alike = one_answer(others["fp32"], job.model.task)
    notes = (alike, chosen(best.name, len(search.trials)), unproved(findings, job.recipe.quantize))
    for line in [*findings.lines(), *filter(None, notes)]:
        report(line)
    passing = [engine for engine in engines if f"{engine}-int8" not in best.failing]
    for name in best.failing if passing else ():
        report(f"{name} is left out: {', '.join(best.reasons[name])}")
    refused = None if passing else best.why()
    final = concluded(with_int8(draft, job, proto, best.graph, passing or engines), job, findings, best, refused)
    final = _with_sets(job, final, kept.best, report)
    sentence = fastest({name: timing[name].p50 for name in _usable(final)}, accurate=refused is None)
    if sentence:
        report(sentence)
    unfinished = folder / out.name
    bundle = final.write(unfinished, force=True)
    append_evidence(
        unfinished,
        "evidence/quantize.json",
        record(job, search.trials, native, best, gate(findings, job.recipe.quantize, refused), timing, sentence),
    )
    unfinished.replace(out)
    if refused is None:
        report(f"{out} is written, {out.stat().st_size / 1e6:.1f} MB, id {bundle[:12]}: {yes(findings, job.recipe.quantize)}")
        return None
    refusal = GateRefused(
        f"{out} is written, but marked as refused: {refused}",
        do="train the student longer or take a larger one, or state what may be lost with --max-drop and --max-flips",
    )
    refusal.findings = findings  # type: ignore[attr-defined]
    return refusal


def _others(job: Job, draft: Draft, beside: Path) -> dict[str, dict[str, np.ndarray]]:
    """What the torch model, under "fp32", the fp32 variants and bf16 answer on `val`."""
    with draft.tried(beside) as trial:
        return measure(job.dataset, job.val, job.prepare, _predictors(job, trial), job.bar)


def _with_sets(job: Job, final: Draft, beside: Path, report: Report) -> Draft:
    """The bundle with the quantile of its conformal sets, if the recipe asks for them."""
    coverage, task = job.recipe.quantize.coverage, final.manifest.task
    if coverage is None:
        return final
    assert job.dataset.labels is not None
    (_, images), usable = halves(job.dataset, job.recipe), _usable(final)
    with final.tried(beside) as trial:
        predictors = {name: each for name, each in _predictors(job, trial).items() if name in usable}
        outputs = measure(job.dataset, images, job.prepare, predictors, job.bar)
    found = fitted(outputs, job.dataset.labels[images], task, coverage)
    report(
        f"conformal sets of {100 * coverage:g} % coverage hold every label with a probability of at least "
        f"{1 - found.quantile:.4f}, from {len(images)} images of '{SPLIT}'"
    )
    manifest = structs.replace(final.manifest, task=structs.replace(task, conformal=found))
    return Draft(manifest=manifest, preprocess=final.preprocess, entries=final.entries)


def _speeds(job: Job, draft: Draft, beside: Path) -> dict[str, Timing]:
    """The time of one image, of everything that can answer, in turn."""
    prepared = job.prepare(job.dataset.pixels(int(job.val[0])))[None]
    with draft.tried(beside) as trial:
        return speeds(_predictors(job, trial), prepared)


def _predictors(job: Job, trial: Copy) -> dict[str, Predictor]:
    """The torch model as "fp32", every variant, and bf16 where it can be measured."""
    variants = trial.bundle.manifest.variants
    predictors: dict[str, Predictor] = {"fp32": lambda batch: reference(job.model, batch)}
    predictors |= {variant.name: trial.engine(variant) for variant in variants}
    half = [variant for variant in variants if (variant.engine, variant.precision) == ("openvino", "fp32")]
    if half and job.labels is not None and runs_bf16():
        predictors[BF16] = trial.engine(half[0], precision="bf16")
    return predictors


def _usable(final: Draft) -> list[str]:
    """The ways in which a device may run the bundle."""
    variants = final.manifest.variants
    return [variant.name for variant in variants] + ([BF16] if any(variant.bf16 for variant in variants) else [])
