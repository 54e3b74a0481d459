"""The decision rule fitted to labels: temperature and thresholds, from the `calibrate` split and no other.

Not the refit of an int8 graph to fp32's answers (`refit.py`), and no layer of the model changes.

T minimises the cross-entropy of softmax(z / T), or of sigmoid(z / T) per label, to the labels: temperature scaling, Guo et al.
2017, section 4.2, which is 1 / b of `verify/slope.py`. The thresholds t then maximise sensitivity + specificity - 1 (Youden
1950), each in the middle of the gap between two probabilities that it lies in; of equally good gaps the one whose middle is
nearest to the threshold before. A threshold takes `CLASS` images with its label and as many without: of fewer, the decisions
about that label stay as they were. T takes errors (`verify/slope.py`); of too few it stays as it was.
"""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np

from ..errors import InputError
from ..export.golden import reference
from ..runtime.decide import probabilities
from ..spec.task import Task
from ..verify.scores import truth_of
from ..verify.slope import LEAST, MOST, Slope
from .calibrate import FEWEST, SPLIT
from .halves import counted, halves
from .job import Job
from .measure import measure

SMALLEST, LARGEST = 1 / MOST, 1 / LEAST  # T
CLASS = 10  # images with a label, and without it, for a threshold


def with_rule(job: Job) -> tuple[Job, str]:
    """The job whose model decides by the fitted rule, and a sentence about it.

    Raises:
        InputError: no labels, an embedding, fewer than 30 labelled images of `calibrate` (of its half, where a conformal
            quantile is asked for too), or a class without an image there.
    """
    task, dataset = job.model.task, job.dataset
    if task.kind == "embedding" or dataset.labels is None:
        why = "an embedding decides nothing" if task.kind == "embedding" else f"{dataset.name} has no labels"
        raise InputError(f"--calibrate fits the decision rule to labels, and {why}", do="leave --calibrate out")
    rows, _ = halves(dataset, job.recipe)
    if len(rows) < FEWEST:
        half = ", half of them, beside quantize.coverage" if job.recipe.quantize.coverage is not None else ""
        raise InputError(
            f"--calibrate has {len(rows)} labelled images of the '{SPLIT}' split of {dataset.name}{half}",
            expected=f"at least {FEWEST}",
            do="give the split more images, or leave --calibrate out",
        )
    answers = measure(dataset, rows, job.prepare, {"fp32": lambda batch: reference(job.model, batch)}, job.bar)
    labels = dataset.labels[rows]
    found = fitted(answers["fp32"]["logits"], labels, task)
    kept, unknown = few(labels, task), found.temperature == task.temperature
    said = f"fitted to the labels of {len(rows)} images of '{SPLIT}': temperature {found.temperature:.3g}"
    said += " as before, for there are too few errors to fit one to" if unknown else ""
    if found.thresholds:
        said += f", {_of(found)}"
    if kept:
        said += f"; {', '.join(kept)} decided as before, for with fewer than {CLASS} images of a class no threshold is fitted"
    rule = {**counted(dataset, rows), "temperature_kept": unknown, "thresholds_kept": list(kept), "said": said}
    return replace(job, model=replace(job.model, task=found), rule=rule), said


def fitted(logits: np.ndarray, labels: np.ndarray, task: Task) -> Task:
    """The task with the temperature and thresholds that fit.

    Args:
        logits: `[N, K]`, finite. labels: int `[N]`, class index, or 0 and 1 `[N, K]` for multilabel.

    Raises:
        InputError: a class (a label, or its absence) that no image shows: nothing could be fitted to it.
    """
    truth = truth_of(labels, task)
    for label, shown in zip(task.labels, truth.T):
        if shown.all() or not shown.any():
            raise InputError(
                f"{'every' if shown.all() else 'no'} image of '{SPLIT}' shows {label}",
                expected="images with and without each label",
                do="give the split other images, or leave --calibrate out",
            )

    slope = Slope(logits, labels, task).of(np.arange(len(labels)))
    changed = msgspec.structs.replace(task, temperature=task.temperature if math.isnan(slope) else 1 / slope)
    chances = probabilities(np.asarray(logits), changed)
    if task.kind == "multiclass":
        return changed
    if task.kind == "binary":
        chances, truth = chances[:, 1:], truth[:, 1:]
    kept, ratio = few(labels, task), task.temperature / changed.temperature
    thresholds = tuple(
        _moved(before, ratio) if label in kept else _youden(chance, holds, before)
        for label, chance, holds, before in zip(_decided(task), chances.T, truth.T, task.thresholds)
    )
    return msgspec.structs.replace(changed, thresholds=thresholds)


def few(labels: np.ndarray, task: Task) -> tuple[str, ...]:
    """The labels that fewer than `CLASS` images have, or do not have, of those with a threshold."""
    shown = zip(task.labels, truth_of(labels, task).T)
    return tuple(label for label, holds in shown if label in _decided(task) and min(holds.sum(), (~holds).sum()) < CLASS)


def _decided(task: Task) -> tuple[str, ...]:
    """The labels that have a threshold."""
    return {"binary": task.labels[1:], "multilabel": task.labels}.get(task.kind, ())


def _moved(threshold: float, ratio: float) -> float:
    """The threshold on sigmoid(z / T) where z is cut as before, at sigmoid(ratio * logit); `ratio` is T before over T now."""
    if not 0 < threshold < 1:
        return threshold
    return 0.5 + 0.5 * math.tanh(0.5 * ratio * math.log(threshold / (1 - threshold)))


def _youden(chance: np.ndarray, holds: np.ndarray, before: float) -> float:
    """The threshold; `chance` float64 `[N]`, `holds` bool `[N]` with both values, `before` the threshold so far."""
    levels = np.unique(chance)
    cuts = np.concatenate([levels[:1] / 2, (levels[1:] + levels[:-1]) / 2, (levels[-1:] + 1) / 2])
    yes, no = (np.sort(chance[wanted]) for wanted in (holds, ~holds))
    sensitivity = 1 - np.searchsorted(yes, cuts) / len(yes)
    specificity = np.searchsorted(no, cuts) / len(no)
    worth = sensitivity + specificity
    best = cuts[worth >= worth.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - before))])


def _of(task: Task) -> str:
    if task.kind == "binary":
        return f"{task.labels[1]} from a probability of {task.thresholds[0]:.3g} on"
    return "thresholds " + ", ".join(f"{label} {each:.3g}" for label, each in zip(task.labels, task.thresholds))
