"""What `quantize` is asked to do: model and data loaded and checked against each other, before hours of work.

Not the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..data import Dataset, check_images, clusters, load_data
from ..errors import InputError
from ..export.fp32 import Engine, load, usable_engines
from ..export.onnx import check_mode
from ..models import LoadedModel
from ..runtime.cpu import usable_threads
from ..runtime.preprocess import Preprocessor
from ..spec.recipe import Recipe
from ..train.progress import no_bar
from .calibrate import SPLIT, Calibration, choose, describe
from .conformal import check


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs.

    Attributes:
        model: with the recipe's window, if it states one.
        recipe: its engines are those that can run the model.
        left_out: why the native engine cannot, or "".
        calibration: images of the `calibrate` split; none where no engine asks for them.
        val: int64 `[n]`, positions of the `val` images.
        rule: what the decision rule was fitted to, for the record (`rule.with_rule`); empty where it was not.
        bar: takes the share of the images that are being answered, 0 to 1, and the seconds left.
    """

    model: LoadedModel
    dataset: Dataset
    recipe: Recipe
    prepare: Preprocessor
    calibration: Calibration
    val: np.ndarray
    rule: Mapping[str, Any] = field(default_factory=dict)
    bar: Callable[[float, float], None] = no_bar
    left_out: str = ""

    @property
    def graph_engines(self) -> tuple[Engine, ...]:
        """The engines that run an int8 graph, which calibration images make."""
        return tuple(engine for engine in self.recipe.quantize.engines if engine != "native")

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the `val` images, as `task_metrics` takes them, or None."""
        return None if self.dataset.labels is None else self.dataset.labels[self.val]

    @cached_property
    def groups(self) -> np.ndarray:
        """`[n]`, who belongs together among the `val` images; see `data.clusters`."""
        grouped: np.ndarray = clusters(self.dataset)[self.val]
        return grouped

    def notes(self) -> list[str]:
        """What a person should know about the data before the work begins."""
        left_out = [f"left out: {problem}" for problem in self.dataset.skipped]
        unlabelled = ["no labels: the gate sees flipped decisions and the cosine to the fp32 embedding only"]
        if self.model.task.kind == "embedding":
            unlabelled = ["no labels: the gate sees the cosine to the fp32 embedding only"]
        notes = [*self.dataset.notes, *left_out, *(unlabelled if self.labels is None else [])]
        return notes + ([f"left out: {self.left_out}"] if self.left_out else [])

    def calibrated(self) -> str:
        """The calibration images as a sentence."""
        if not self.graph_engines:
            return "no calibration: the native engine takes its scales from each image"
        return describe(self.calibration, self.recipe.quantize.calibration_images)


def load_job(model: Any, data: str | Path, recipe: Recipe, *, licence: str | None, trust_remote_code: bool, look: bool) -> Job:
    """Load model and data.

    Args:
        look: read every image that will be used, so that a broken one is found now.

    Raises:
        InputError: see `quantize`.
    """
    loaded = load(model, licence=licence, trust_remote_code=trust_remote_code)
    check_mode(loaded.module, loaded.name)
    window = recipe.preprocess.window16
    if window is not None:
        loaded = replace(loaded, preprocess=msgspec.structs.replace(loaded.preprocess, window16=window))
    task = loaded.task
    dataset = load_data(data, recipe.data, labels=task.labels or None)
    mine, theirs = (task.kind, task.labels), (dataset.task.kind, dataset.task.labels)
    if dataset.labels is not None and task.kind != "embedding" and mine != theirs:
        raise InputError(
            f"{dataset.name} is labelled {_some(dataset.task.labels)} ({dataset.task.kind})",
            expected=f"the labels of {loaded.name}: {_some(task.labels)} ({task.kind})",
            do="rename the labels, or take a model of this task",
        )
    engines, left_out = usable_engines(loaded, recipe.quantize.engines)
    recipe = msgspec.structs.replace(recipe, quantize=msgspec.structs.replace(recipe.quantize, engines=engines))
    calibrates = engines != ("native",) or recipe.quantize.calibrate
    used = np.concatenate([dataset.of(SPLIT), dataset.of("val")]) if calibrates else dataset.of("val")
    if look:
        dataset = check_images(dataset, used)
    if recipe.quantize.coverage is not None:
        check(dataset, task, recipe)
    prepare = Preprocessor(loaded.preprocess, threads=usable_threads())
    return Job(
        model=loaded,
        dataset=dataset,
        recipe=recipe,
        prepare=prepare,
        calibration=choose(dataset, prepare, recipe.quantize.calibration_images if engines != ("native",) else 0, recipe.seed),
        left_out=left_out,
        val=dataset.of("val"),
    )


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:6]) + (f", … ({len(labels)})" if len(labels) > 6 else "")
