"""An int8 graph as variants of a bundle, measured on `val`, judged by the gate. Not the order of trials (`search.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace

from ..errors import ParityError
from ..export.draft import Draft, new_variant, with_variants
from ..export.fp32 import Engine, entries_of
from ..runtime.golden import check_golden
from .decide import Row, excess, judge, refusals
from .expected import with_expected
from .job import Job
from .measure import measure
from .unfused import unfused

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was tried.

    Attributes:
        name: how the graph was made, such as "2 layers in float".
        graph: the int8 ONNX graph that all engines but the native one run; None where there is only that.
        outputs: variant name to what it answers on `val`. rows: the same, judged.
        reasons: variant name to why the gate says no; empty where it says yes.
        excess: by how much the worst of what is lost exceeds what may be lost; at most 0 where every variant passes.
        made: for the manifest's evidence: "biases_corrected", "layers_in_float", "logit_scale" and the like.
    """

    name: str
    graph: onnx.ModelProto | None
    outputs: Mapping[str, Outputs]
    rows: tuple[Row, ...]
    reasons: Mapping[str, Sequence[str]]
    excess: float
    made: Mapping[str, float]

    @property
    def failing(self) -> list[str]:
        """Names of the variants that the gate says no to."""
        return [name for name, reasons in self.reasons.items() if reasons]

    @property
    def rank(self) -> tuple[int, float]:
        """Less is better: how many variants fail, then by how much."""
        return len(self.failing), self.excess

    def why(self) -> str:
        """All reasons, each under its variant's name; "" if every variant passes."""
        return "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in self.reasons.items() if reasons)


def judged(
    job: Job,
    name: str,
    graph: onnx.ModelProto | None,
    outputs: Mapping[str, Outputs],
    truth: Outputs,
    made: Mapping[str, float],
) -> Trial:
    """The trial of a graph that was measured. `truth`: the torch model's outputs on `val`."""
    task, recipe = job.model.task, job.recipe.quantize
    reference = judge("fp32", truth, truth, task, job.labels)
    rows = tuple(judge(variant, found, truth, task, job.labels) for variant, found in outputs.items())
    return Trial(
        name=name,
        graph=graph,
        outputs=outputs,
        rows=rows,
        reasons={row.name: refusals(row, reference, task, recipe, len(job.val)) for row in rows},
        excess=max(excess(row, reference, task, recipe) for row in rows),
        made=made,
    )


def native_trial(draft: Draft, job: Job, proto: onnx.ModelProto, truth: Outputs, beside: Path) -> Trial:
    """The one trial of native int8: nothing of it is calibrated, so there is nothing to search.

    Arguments as of `int8_outputs`.
    """
    with _int8_alone(draft, job, proto, None, ("native",)).tried(beside) as trial:
        predictors = {variant.name: trial.engine(variant) for variant in trial.bundle.manifest.variants}
        outputs = measure(job.dataset, job.val, job.prepare, predictors, job.bar)
    found = judged(job, "native int8", None, outputs, truth, {})
    return as_a_device_would(found, draft, job, proto, beside)


def beside_native(found: Trial, native: Trial | None) -> Trial:
    """A trial of the other engines together with that of the native one, if there is one."""
    if native is None or found is native:
        return found
    return dataclasses.replace(
        found,
        outputs={**found.outputs, **native.outputs},
        rows=(*found.rows, *native.rows),
        reasons={**found.reasons, **native.reasons},
        excess=max(found.excess, native.excess),
    )


def with_int8(
    draft: Draft, job: Job, proto: onnx.ModelProto, graph: onnx.ModelProto | None, engines: Sequence[Engine]
) -> Draft:
    """The draft with one int8 variant more per engine, behind its own. `proto`: the fp32 graph."""
    variants, entries = list(draft.manifest.variants), dict[str, bytes]()
    for engine in engines:
        made = entries_of(engine, job.model, unfused(graph) if engine == "onnx" and graph is not None else graph, "int8")
        entries.update(made)
        variants.append(new_variant(f"{engine}-int8", job.model, proto, tuple(made)))
    return with_variants(draft, tuple(variants), entries)


def int8_outputs(
    draft: Draft, job: Job, proto: onnx.ModelProto, graph: onnx.ModelProto, indexes: np.ndarray, beside: Path
) -> dict[str, dict[str, np.ndarray]]:
    """What the graph answers on images of the data set in every engine that runs it, as the runtime does, by variant.

    Args:
        draft: the fp32 bundle. indexes: int64 `[N]`. beside: a trial copy is written beside this file, and removed.
    """
    with _int8_alone(draft, job, proto, graph, job.graph_engines).tried(beside) as trial:
        predictors = {variant.name: trial.engine(variant) for variant in trial.bundle.manifest.variants}
        return measure(job.dataset, indexes, job.prepare, predictors, job.bar)


def _int8_alone(
    draft: Draft, job: Job, proto: onnx.ModelProto, graph: onnx.ModelProto | None, engines: Sequence[Engine]
) -> Draft:
    """The draft with the int8 variants of these engines and no others: theirs need not be written to try these."""
    fixed = {name: content for name, content in draft.entries.items() if not name.startswith("variants/")}
    bare = Draft(manifest=replace(draft.manifest, variants=()), preprocess=draft.preprocess, entries=fixed)
    return with_int8(bare, job, proto, graph, engines)


def as_a_device_would(found: Trial, draft: Draft, job: Job, proto: onnx.ModelProto, beside: Path) -> Trial:
    """The trial, with a reason for each variant that the gate lets pass and a device would not run.

    A device holds a variant to the golden inputs before it runs it (`runtime/golden.py`), and what passes here must be usable
    where it was made. Arguments as of `int8_outputs`.
    """
    passing = [name for name in found.reasons if name not in found.failing]
    if not passing:
        return found
    reasons = {name: list(each) for name, each in found.reasons.items()}
    alone = _int8_alone(draft, job, proto, found.graph, ("native",) if found.graph is None else job.graph_engines)
    with with_expected(alone, found.graph, job.prepare).tried(beside) as trial:
        for variant in trial.bundle.manifest.variants:
            if variant.name in passing:
                try:
                    check_golden(trial.engine(variant), trial.bundle, "int8", variant.name)
                except ParityError as error:
                    reasons[variant.name].append(f"a device would refuse it: {str(error).rstrip('.')}")
    return dataclasses.replace(found, reasons=reasons)
