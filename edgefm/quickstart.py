"""The whole road in minutes: teacher, student, int8 bundle, and a table of what each step costs and keeps.

Not a fourth way to train: it calls the rooms as a user would, with settings that are quick rather than good.

    images ──fit──▶ teacher/ ──distill──▶ student/ ──quantize──▶ model.efm ──run──▶ the table, on the test images
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GateRefused, InputError
from .spec.recipe import AugmentRecipe, DataRecipe, DistillRecipe, QuantizeRecipe, Recipe

if TYPE_CHECKING:
    import numpy as np

    from .data.dataset import Dataset
    from .models import LoadedModel
    from .spec.task import Task

TEACHER = "resnet10t"
PASSES = 6000  # images shown to the teacher at most: more images mean fewer epochs, and never more than the student has
RECIPE = Recipe(
    student="test_efficientnet",  # 160 pixels, a fraction of a million weights: chosen for the sake of the minutes
    data=DataRecipe(val=0.3, test=0.2),
    # Small batches and hardly any augmentation: in so few epochs more steps on plainer images teach more.
    distill=DistillRecipe(
        epochs=12, views=2, lr=2e-3, batch=16, augment=AugmentRecipe(rotate=0, zoom=0, brightness=0, contrast=0)
    ),
    quantize=QuantizeRecipe(calibration_images=128),
)
Report = Callable[[str], None]


def quickstart(
    data: str | Path, out: Path, *, recipe: Recipe, force: bool, report: Report, bar: Callable[[float, float], None]
) -> dict[str, Any]:
    """See `api.quickstart`. A refused gate is a result here, not an error.

    Raises:
        InputError: data without labels, images that cannot be read, or `out` cannot be written.
    """
    from .data import check_images, load_data
    from .distill import distill
    from .partial import partial_folder
    from .quantize import quantize

    started = time.monotonic()
    dataset = load_data(data, recipe.data, seed=recipe.seed)
    if dataset.labels is None:
        raise InputError(f"{dataset.name} has no labels", do="give labelled images, or use edgefm distill, which needs none")
    dataset = check_images(dataset)
    test = [int(index) for index in dataset.of("test")]
    with partial_folder(out, force=force) as folder:
        report(f"1/4  a teacher learns from {len(dataset.of('train'))} images of {dataset.name}")
        _fit_teacher(dataset, folder / "teacher", recipe, report, bar)
        report(f"2/4  a student, {recipe.student}, learns from the teacher")
        distill(folder / "teacher", recipe.student, data, folder / "student", recipe=recipe, report=report, bar=bar)
        report("3/4  int8, and what it changes")
        refused = None
        try:
            quantize(folder / "student", data, folder / "model.efm", recipe=recipe, report=report)
        except GateRefused:
            refused = _reason(folder / "model.efm")
        report(f"4/4  all of them answer for {len(test)} test images, which none has seen")
        rows = _compare(folder, dataset, test)
    return {
        "rows": rows,
        "refused": refused,
        "seconds": round(time.monotonic() - started, 1),
        "paths": {name: str(out / name) for name in ("teacher", "student", "model.efm")},
        "images": {split: int((dataset.splits == split).sum()) for split in ("train", "val", "calibrate", "test")},
    }


def _reason(bundle: Path) -> str | None:
    """Why the gate refused the bundle, as its manifest says."""
    from .bundle import open_bundle

    with open_bundle(bundle) as opened:
        return opened.manifest.refused


def _fit_teacher(dataset: Dataset, out: Path, recipe: Recipe, report: Report, bar: Callable[[float, float], None]) -> None:
    import msgspec

    from .models import build_student
    from .spec.preprocess import Preprocess
    from .train.supervised import fit_supervised

    pixels = dataset.pixels(int(dataset.of("train")[0]))
    channels = 3 if pixels.ndim == 3 else 1
    window = recipe.preprocess.window16 or (0.0, 65535.0)
    prepare = Preprocess(channels=channels, window16=window, mean=(0.5,) * channels, std=(0.25,) * channels)
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


def _compare(folder: Path, dataset: Dataset, test: list[int]) -> list[dict[str, Any]]:
    """One row per model: what it weighs, how right it is on the test images, and milliseconds from pixels to answer."""
    from .bundle import open_bundle
    from .models import load_model

    teacher, student = load_model(folder / "teacher"), load_model(folder / "student")
    answers = {"teacher, torch": (_torch_answers(teacher, dataset, test), teacher, folder / "teacher" / "model.safetensors")}
    with open_bundle(folder / "model.efm") as bundle:
        variants, entries = bundle.manifest.variants, bundle.manifest.entries
    sizes = {each.name: sum(entries[file].size for graph in each.graphs.values() for file in graph.files) for each in variants}
    rows = []
    for name, (found, model, file) in answers.items():
        rows.append(_row(name, found, model, file.stat().st_size, dataset, test, None))
    reference = None
    for variant in sorted(variants, key=lambda each: each.precision):
        found = _bundle_answers(folder / "model.efm", variant.name, dataset, test)
        rows.append(_row(f"student, {variant.name}", found, student, sizes[variant.name], dataset, test, reference))
        reference = found[0] if reference is None else reference
    return rows


Answers = tuple["np.ndarray", float]  # probabilities [N, K], median milliseconds


def _torch_answers(model: LoadedModel, dataset: Dataset, test: list[int]) -> Answers:
    import torch

    from .runtime.decide import probabilities
    from .runtime.preprocess import Preprocessor

    prepare = Preprocessor(model.preprocess)

    def answers() -> Iterator[np.ndarray]:
        for index in test:
            with torch.inference_mode():
                outputs = model.module(torch.from_numpy(prepare(dataset.pixels(index)))[None])
            yield probabilities(outputs.logits.numpy(), model.task)[0]

    return _timed(answers())


def _bundle_answers(bundle: Path, variant: str, dataset: Dataset, test: list[int]) -> Answers:
    import numpy as np

    from .runtime.session import Session

    def answers() -> Iterator[np.ndarray]:
        with Session(bundle, variant=variant, allow_refused=True) as session:
            for index in test:
                yield np.array([*session.predict(dataset.pixels(index)).probabilities.values()])

    return _timed(answers())


def _timed(answers: Iterator[np.ndarray]) -> Answers:
    import numpy as np

    found, milliseconds = [], []
    while True:
        start = time.perf_counter()
        answer = next(answers, None)
        if answer is None:
            return np.stack(found), statistics.median(milliseconds)
        found.append(answer)
        milliseconds.append((time.perf_counter() - start) * 1e3)


def _row(
    name: str, found: Answers, model: LoadedModel, size: int, dataset: Dataset, test: list[int], reference: np.ndarray | None
) -> dict[str, Any]:
    from .runtime.decide import decisions
    from .verify.metrics import defined, flips, task_metrics

    assert dataset.labels is not None
    task: Task = dataset.task
    probabilities, milliseconds = found
    changed = None if reference is None else flips(decisions(probabilities, task), decisions(reference, task))
    return {
        "name": name,
        "weights_millions": round(sum(each.numel() for each in model.module.parameters()) / 1e6, 2),
        "megabytes": round(size / 1e6, 1),
        "metrics": defined(task_metrics(probabilities, dataset.labels[test], task)),
        "flips": changed,
        "milliseconds": round(milliseconds, 2),
    }
