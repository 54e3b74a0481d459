"""A bundle on images: every variant and the reference measured, and whether its engines agree. One record of plain values.

Not the reading of data and models (the front door's), not how it looks (`page.py`), not the clinical gate's rule (`gate.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import to_builtins

from .. import __version__
from ..bundle import Bundle
from ..errors import InputError
from ..runtime.cpu import cpu_features, cpu_name
from ..runtime.engines import ENGINES
from ..runtime.select import candidates
from ..spec.gate import Gate
from ..spec.manifest import Manifest, Variant
from ..spec.task import Task
from .answers import Images, collect
from .cases import flipped_cases
from .columns import Column
from .conformal import conformal_sets
from .contenders import Contender, comparable, in_fp32, variants_of
from .gate import TOO_FEW, floors, judged, without_errors
from .intervals import DRAWS
from .older import older
from .parity import LIMIT
from .robustness import compared as answering
from .robustness import robustness
from .statement import LEVEL, between, statements
from .subgroups import notes as subgroup_notes
from .subgroups import subgroups

Array = npt.NDArray[Any]
FEW = 30


def verdict(
    bundle: Bundle,
    images: Images,
    reference: Contender | None,
    *,
    groups: Array,
    about: Mapping[str, Any],
    seed: int,
    bar: Callable[[float, float], None],
    gate: Gate | None = None,
    capped: bool = False,
    modality: str | None = None,
    columns: Sequence[Column] = (),
    names: Sequence[str] | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Measure a bundle.

    Args:
        images: with labels as the bundle's task has them (for an embedding any classes), or None.
        reference: None for the bundle's own first fp32 variant.
        groups: `[N]`, who belongs together, such as the patient of each image.
        about: what to record of the data; no file names and no patients.
        gate: how much worse than the reference the bundle may be; None asks for no verdict.
        capped: also hold the variants to themselves as older processors would run them (`older.py`).
        modality: whose corruptions the images go through; None for none.
        columns: what makes subgroups.
        names: what to call each image in a list of those that are decided otherwise; None for no list and no names at all.

    Returns:
        `edgefm`, `cpu`, `versions`: what measured. `bundle`: `name`, `id`, `refused`, `bytes` (variant to the
        size of its files) and `lineage` (ancestors: `role`, `name`, `licence`, `sha256`). `task`: the decision rule.
        `data`: `about`, and `images`, `labelled`, `groups` (how many) and `by` ("patient" or "image").
        `intervals`: `level`, `draws`, `seed`. `reference`: its name, or None.
        `variants`: records as `statement.statements` gives them, an outside reference first. `between`: the bundle's own
        variants in pairs, as `statement.between` gives them. `older`: as `older.older` gives it, empty without `capped`.
        `left_out`: variant, or variant under a cap, to the reason why it cannot run here.
        `parity`: `passed`, `limit`, `inputs` (golden inputs of the bundle), `reasons` (a sentence per failure).
        `robustness`: as `robustness.robustness` gives it, or None without `modality`.
        `gate`: as `gate.judged` gives it, or None. `subgroups`: a record per column, as `subgroups.subgroups` gives it.
        `conformal`: what sets of labels are worth, by variant, as `conformal.conformal_sets` gives it.
        `cases`: as `cases.flipped_cases` gives them, with names of images and patients; None without `names`.
        `notes`: what a person must know to read the numbers, one sentence each.
        The same inputs on the same machine give the same record.

    Raises:
        InputError: no variant can run here, the reference answers another question, or there is nothing to measure.
        ParityError: an answer that is not a finite number.
    """
    manifest, task = bundle.manifest, bundle.manifest.task
    own, left_out = variants_of(bundle)
    outside = [] if reference is None else [reference]
    if reference is None:
        reference = in_fp32(own)
    else:
        comparable(reference, task)
    if reference is None and images.labels is None:
        raise InputError(
            "there are neither labels nor an fp32 variant that runs here, so there is nothing to compare with",
            do="name a reference with --against, or give data with labels",
        )
    if reference is None and gate is not None:
        raise InputError("the gate has nothing to compare the bundle with", do="name a reference with --against")
    answers = collect(images, [*outside, *own], reference=reference, embeddings=task.kind == "embedding", bar=bar)
    compared = next((each for each in answers if each.contender is reference), None)
    variants = statements(answers, compared, images.labels, groups, seed=seed, draws=draws)
    pairs = list(between(answers[len(outside) :]))
    under_caps, without = older(bundle, images, answers[len(outside) :], bar=bar) if capped else ([], {})
    parted = subgroups(columns, answers, compared, images.labels, groups, seed=seed, draws=draws)
    count, by = len(np.unique(groups)), "image" if images.patients is None else "patient"
    reasons = [f"{each.name}: {each.wrong}" for each in own if each.wrong]
    reasons += [_apart(pair["one"], pair["other"], pair) for pair in pairs if not pair["passed"]]
    reasons += [f"{each['name']}: {each['wrong']}" for each in under_caps if each["wrong"]]
    reasons += [_apart(each["variant"], each["name"], each) for each in under_caps if not each["passed"]]
    return {
        "edgefm": __version__,
        "cpu": {"name": cpu_name(), "features": [name for name, there in cpu_features().items() if there]},
        "versions": _versions({each.name.partition("-")[0] for each in own}),
        "bundle": {
            "name": manifest.name,
            "id": bundle.id,
            "refused": manifest.refused,
            "bytes": {each.name: _bytes(each.variant, manifest) for each in candidates(manifest)[0]},
            "lineage": [to_builtins(each) for each in manifest.lineage],
        },
        "task": {
            "kind": task.kind,
            "labels": task.labels,
            "thresholds": task.thresholds,
            "temperature": task.temperature,
        },
        "data": {**about, "images": len(images), "labelled": images.labels is not None, "groups": count, "by": by},
        "intervals": {"level": LEVEL, "draws": draws, "seed": seed},
        "reference": None if reference is None else reference.name,
        "variants": variants,
        "between": pairs,
        "older": under_caps,
        "left_out": left_out | without,
        "parity": {"passed": not reasons, "limit": LIMIT, "inputs": len(manifest.golden), "reasons": reasons},
        "gate": None if gate is None else judged(variants, gate, floors(images.labels, groups, task)),
        "robustness": None
        if modality is None
        else robustness(
            images,
            answering(own, outside),
            reference=reference,
            modality=modality,
            groups=groups,
            seed=seed,
            bar=bar,
            draws=draws,
        ),
        "subgroups": parted,
        "conformal": conformal_sets(answers, images.labels, columns, groups, seed=seed, draws=draws),
        "cases": None if names is None else flipped_cases(answers, compared, images.labels, names, images.patients),
        "notes": [
            *_notes(variants, count, by, len(manifest.golden), images.labels is not None, task),
            *subgroup_notes(parted),
        ],
    }


def _bytes(variant: Variant, manifest: Manifest) -> int:
    return sum(manifest.entries[file].size for file in {file for graph in variant.graphs.values() for file in graph.files})


def _versions(engines: set[str]) -> dict[str, str]:
    """Of the libraries; EdgeFM's own engine is as old as EdgeFM."""
    libraries = sorted(ENGINES[engine].library for engine in engines if ENGINES[engine].extra)
    return {library: metadata.version(library) for library in libraries}


def _apart(one: str, other: str, found: Mapping[str, Any]) -> str:
    return f"{one} and {other} are {found['largest_difference']:.2g} apart, at most {LIMIT:g} is round-off"


def _notes(
    variants: Sequence[Mapping[str, Any]], count: int, by: str, inputs: int, labelled: bool, task: Task
) -> Iterator[str]:
    """What a person must know to read the numbers."""
    reference = next((each for each in variants if each["reference"]), None)
    if reference is None:
        yield "no fp32 variant can run here and no --against was given, so nothing is compared with a reference"
    if not labelled:
        yield "the data have no labels, so only what differs from the reference is measured"
    if not inputs:
        yield "the bundle holds no golden inputs to compare with"
    if by == "image":
        yield "no patients are named, so each image counts for itself; several of one patient make the intervals too narrow"
    if count == 1:
        yield f"there is one {by} only, so there are no intervals"
    elif count < FEW:
        yield f"from {count} {by}s the intervals are narrower than they should be"
    intervals = {name: each for record in variants for name, each in record["metrics"].items()}
    if undefined := [name for name, each in intervals.items() if math.isnan(each["value"])]:
        yield f"undefined on these images: {', '.join(undefined).replace('_', ' ')}"
    if few := [record["name"] for record in variants if without_errors(record)]:
        yield f"calibration by its slope is {TOO_FEW} ({', '.join(few)})"
    if count > 1 and any(each["low"] == each["high"] for record in variants for each in _intervals(record)):
        # The rule of three: 0 of n bounds a share by 3 / n, 95 % (Hanley and Lippman-Hand 1983).
        yield (
            "where no interval is shown all draws gave the same, which is not certainty: "
            f"what never happened to {count:,} {by}s may still happen to {min(100, 300 / count):.1f} % of others"
        )
    if task.kind == "embedding" and any(each["mean_cosine"] is None for each in variants if not each["reference"]):
        yield "embeddings of another width than the reference's have no cosine to it"


def _intervals(record: Mapping[str, Any]) -> Iterator[Mapping[str, float]]:
    """Those that the tables show, but those of single labels."""
    yield from record["metrics"].values()
    yield from record["difference"].values()
    if record["flips"]:
        yield record["flips"]["share"]
