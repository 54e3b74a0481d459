"""The whole road in minutes: teacher, student with and without it, int8 bundle, and a table of what each costs and keeps.

Not a fourth way to train: it calls the rooms as a user would, with settings that are quick rather than good.

    images ──fit──▶ teacher/ ──distill──▶ student/ ──quantize──▶ model.efm ──verify, bench──▶ the table, on the test images
       └──────────── labels alone ───────▶ without_teacher/ ──export──▶ without_teacher.efm ──────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GateRefused, InputError
from .spec.recipe import AugmentRecipe, DataRecipe, DistillRecipe, QuantizeRecipe, Recipe

if TYPE_CHECKING:
    from .bundle import Bundle
    from .data.dataset import Dataset
    from .verify.contenders import Contender

TEACHER = "resnet10t"
PASSES = 4500  # images shown to the teacher at most: more images mean fewer epochs, and never more than the student has
SIDE = 160  # pixels that the teacher sees: as many as the student
RUNS = 40  # answers per contender when they are timed
RECIPE = Recipe(
    student="test_efficientnet",  # 160 pixels, a fraction of a million weights: chosen for the sake of the minutes
    data=DataRecipe(val=0.3, test=0.2),
    # Small batches and hardly any augmentation: in so few epochs more steps on plainer images teach more.
    distill=DistillRecipe(
        epochs=10, views=2, lr=2e-3, batch=16, augment=AugmentRecipe(rotate=0, zoom=0, brightness=0, contrast=0)
    ),
    quantize=QuantizeRecipe(calibration_images=128, minutes=0.5),
)
NAMES = ("teacher", "without_teacher", "student", "model.efm", "report.json", "report.html")
Report = Callable[[str], None]
Bar = Callable[[float, float], None]


def quickstart(data: str | Path, out: Path, *, recipe: Recipe, force: bool, report: Report, bar: Bar) -> dict[str, Any]:
    """See `api.quickstart`. A refused gate is a result here, not an error.

    Raises:
        InputError: data without labels, images that cannot be read, or `out` cannot be written.
    """
    from .data import check_images, load_data
    from .distill import distill
    from .export.fp32 import export
    from .partial import check_output_folder, partial_folder
    from .quantize import quantize

    check_output_folder(out, force)
    started = time.monotonic()
    dataset = load_data(data, recipe.data)
    if dataset.labels is None:
        raise InputError(f"{dataset.name} has no labels", do="give labelled images, or use edgefm distill, which needs none")
    dataset = check_images(dataset)
    dataset.of("test")  # an empty one is refused now
    with partial_folder(out, force=force) as folder:
        common: dict[str, Any] = {"recipe": recipe, "report": report, "bar": bar}
        report(f"1/5  a teacher learns from {len(dataset.of('train'))} images of {dataset.name}")
        _fit_teacher(dataset, folder / "teacher", recipe, report, bar)
        report(f"2/5  a student, {recipe.student}, learns from the teacher")
        distill(folder / "teacher", recipe.student, data, folder / "student", **common)
        report("3/5  the same student learns from the labels alone, for comparison")
        distill(folder / "teacher", recipe.student, data, folder / "without_teacher", without_teacher=True, **common)
        export(folder / "without_teacher", folder / "without_teacher.efm", recipe=recipe, report=_silent)
        report("4/5  int8, and what it changes")
        with suppress(GateRefused):
            quantize(folder / "student", data, folder / "model.efm", **common)
        refused, verdict = _gate(folder / "model.efm")
        report("5/5  all of them answer for test images that none has seen, and for the clock")
        rows, example = _compare(folder, dataset.take(dataset.of("test")), recipe.seed, bar)
        _report(folder, data, bar)
    return {
        "rows": rows,
        "refused": refused,
        "verdict": verdict,
        "example": example,
        "seconds": round(time.monotonic() - started, 1),
        "paths": {name: str(out / name) for name in NAMES},
        "images": {split: int((dataset.splits == split).sum()) for split in ("train", "val", "calibrate", "test")},
    }


def _silent(line: str) -> None:
    """Lines that the road itself has told already, or that nobody reads here."""


def _gate(bundle: Path) -> tuple[str | None, str]:
    """Why the gate refused the bundle, or None; and its word, with what its images can prove."""
    import msgspec

    from .bundle import open_bundle

    with open_bundle(bundle) as opened:
        return opened.manifest.refused, msgspec.json.decode(opened.view("evidence/quantize.json"))["gate"]["verdict"]


def _fit_teacher(dataset: Dataset, out: Path, recipe: Recipe, report: Report, bar: Bar) -> None:
    import msgspec

    from .models import build_student
    from .spec.preprocess import Preprocess
    from .train.supervised import fit_supervised

    pixels = dataset.pixels(int(dataset.of("train")[0]))
    channels = 3 if pixels.ndim == 3 else 1
    window = recipe.preprocess.window16 or (0.0, 65535.0)
    scale = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    prepare = Preprocess(channels=channels, size=SIDE, resize_to=SIDE, window16=window, **scale)
    model = build_student(TEACHER, task=dataset.task, preprocess=prepare, seed=recipe.seed)
    epochs = min(recipe.distill.epochs, max(1, round(PASSES / len(dataset.of("train")))))
    settings = msgspec.structs.replace(recipe.distill, views=min(recipe.distill.views, epochs))
    fit_supervised(
        model,
        dataset,
        out,
        epochs=epochs,
        seed=recipe.seed,
        recipe=msgspec.structs.replace(recipe, distill=settings),
        report=report,
        bar=bar,
    )


def _report(folder: Path, data: str | Path, bar: Bar) -> None:
    """What `edgefm verify model.efm -d DATA -o OUT` writes: int8 and the other variants against the student's fp32."""
    from .verification import verify

    verify(
        folder / "model.efm",
        data,
        against=None,
        gate=None,
        parity="variants",
        seal=False,
        robustness=None,
        by=(),
        with_cases=False,
        bench=None,
        split="test",
        out=folder,
        recipe=None,
        sets=(),
        seed=None,
        trust_remote_code=False,
        allow_refused=True,
        force=False,
        report=_silent,
        bar=bar,
    )


def _compare(folder: Path, test: Dataset, seed: int, bar: Bar) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row per model: what it weighs, how right it is with intervals, what it changes, and how fast it is; and one answer.

    Every way to run the two bundles and the teacher in torch answer for the same images. Flips are against the student's fp32.
    """
    import numpy as np

    from .bundle import open_bundle
    from .data import clusters
    from .runtime.session import Session
    from .verification import torch_reference
    from .verify.answers import collect
    from .verify.contenders import in_fp32, variants_of
    from .verify.statement import statements

    model, control = folder / "model.efm", folder / "without_teacher.efm"
    with ExitStack() as opened:
        bundles = [opened.enter_context(open_bundle(path)) for path in (model, control)]
        own, alone = (variants_of(bundle)[0] for bundle in bundles)
        teacher = replace(torch_reference(folder / "teacher"), name="teacher, torch")
        student, other = in_fp32(own), in_fp32(alone)
        assert student is not None
        assert other is not None
        named = [replace(each, name=f"student, {each.name}") for each in own]
        other = replace(other, name=f"without teacher, {other.name}")
        base = named[own.index(student)]
        answers = collect(test, [teacher, other, *named], reference=base, embeddings=False, bar=bar)
        records = statements(answers, answers[2 + own.index(student)], test.labels, clusters(test), seed=seed)
        sizes = _sizes(folder, bundles[0], bundles[1], [each.name for each in own], other)
    times = _times(folder, model, control, bar)
    weights = _weights(folder)
    rows = []
    for record, size in zip(records, sizes):
        kind = record["name"].partition(",")[0]
        flips = None if record["flips"] is None or record["reference"] or kind != "student" else record["flips"]
        rows.append(
            {
                "name": record["name"],
                "weights_millions": weights[kind],
                "megabytes": round(size / 1e6, 2),
                "metrics": {name: value for name, value in record["metrics"].items() if np.isfinite(value["value"])},
                "flips": flips,
                "milliseconds": times.get(record["name"]),
            }
        )
    with Session(model, allow_refused=True) as session:
        first = session.predict(test.pixels(0))
    return rows, {"image": test.names[0], "label": first.label, "probabilities": first.probabilities, "variant": first.variant}


def _sizes(folder: Path, model: Bundle, control: Bundle, names: list[str], other: Contender) -> list[int]:
    """Bytes of the teacher's weights, of the control arm's variant, and of each variant of the model, in the order of rows."""

    def variant(bundle: Bundle, name: str) -> int:
        stored = name.replace("bf16", "fp32")  # bf16 is a way to run the fp32 variant
        graphs = next(each.graphs for each in bundle.manifest.variants if each.name == stored)
        return sum(bundle.manifest.entries[file].size for graph in graphs.values() for file in graph.files)

    teacher = (folder / "teacher" / "model.safetensors").stat().st_size
    return [teacher, variant(control, other.name.partition(", ")[2]), *(variant(model, name) for name in names)]


def _times(folder: Path, model: Path, control: Path, bar: Bar) -> dict[str, float | None]:
    """Median milliseconds from an image file to the answer, loaded and warm, by the names of the rows."""
    from .bench.bench import bench
    from .data.radiograph import radiograph
    from .torch_contender import torch_contenders

    found = bench(
        [model, control],
        rivals=torch_contenders(f"torch:{folder / 'teacher'}", trust_remote_code=False),
        image=None,
        draw=lambda side: radiograph(0, 0, side, side),
        runs=RUNS,
        starts=0,  # the table has no column for them
        details=False,
        threads=None,
        allow_refused=True,
        report=_silent,
        bar=bar,
    )
    times = {each["name"]: each["answer"]["p50"] for each in found["contenders"] if "error" not in each}
    torch = min((taken for name, taken in times.items() if name.startswith("torch")), default=None)
    files = {f"{model.name} ": "student, ", f"{control.name} ": "without teacher, "}
    rows = {
        kind + name.removeprefix(file): times[name] for name in times for file, kind in files.items() if name.startswith(file)
    }
    return {**rows, "teacher, torch": torch}


def _weights(folder: Path) -> dict[str, float]:
    """Millions of weights by kind of row."""
    from .models import load_model

    kinds = {"teacher": "teacher", "without teacher": "without_teacher", "student": "student"}
    modules = {kind: load_model(folder / name).module for kind, name in kinds.items()}
    return {kind: round(sum(each.numel() for each in module.parameters()) / 1e6, 2) for kind, module in modules.items()}
