"""What the answers are worth: metrics, differences from the reference and changed decisions, each with its interval.

Not the answers (`answers.py`), not how they look (`page.py`), and no gate: the numbers a gate needs are all here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec.task import Task
from .answers import Answers
from .calibration import brier_parts, forecasts
from .curves import SPECIFICITIES, roc, sensitivity_at, thinned
from .embeddings import cka_interval, probe_right
from .intervals import DRAWS, Interval, interval, resampled
from .metrics import knn_right
from .operating import Operating
from .paired import paired_tests
from .parity import LIMIT, in_deviations
from .scores import Scores, truth_of
from .slope import Slope
from .slope_loss import slope_loss

Array = npt.NDArray[Any]
Measure = Callable[[Array], Mapping[tuple[str, ...], float]]
LEVEL = 0.95


def statements(
    answers: Sequence[Answers], reference: Answers | None, labels: Array | None, groups: Array, *, seed: int, draws: int = DRAWS
) -> list[dict[str, Any]]:
    """One record per contender, in their order; all intervals come from the same draws of whole groups.

    Args:
        reference: one of `answers`, or None: then there are no differences and no flips.
        labels: as `Scores` takes them; for an embedding any classes; None without.
        groups: `[N]`, who belongs together, such as the patient of each image.

    Returns:
        `name`, `precision`, `reference` (whether it is the one), and
        `metrics`: name to interval, of `metrics.task_metrics`, or for an embedding `knn_accuracy` and `probe_accuracy` (see
        `embeddings.probe_right`), of images by those of other groups; empty without labels.
        `difference`: name to interval, the metric less the reference's.
        `labels`: label to the metrics of it against the rest, where the task has several.
        `operating`: name to interval, as `operating.Operating` gives them; empty without labels and for an embedding.
        `calibration`: how far probabilities are from what came true, see `_calibration`; None where `operating` is empty.
        `calibration_slope`: interval, see `slope.py`; `slope_loss`: interval, how much further from 1 it is than the
        reference's, as |ln b|, see `slope_loss.py`; None where `operating` is empty, the loss also for the reference.
        `roc`: label to the points of its curve against the rest, `false_positive_rate` and `sensitivity`, at most 200, and
        `sensitivity_at`, of `SPECIFICITIES` in their order (see `curves.sensitivity_at`); of a binary task the positive
        label's; without labels it is empty, and a label without both kinds of image has no points and NaN.
        `tests`: as `paired.paired_tests` gives them, against the reference; None for it and where `operating` is empty.
        `flips`: `count`, `of`, and `share`, an interval: images that get another decision than the reference's. None for an
        embedding and without a reference.
        `mean_cosine`: interval, of the embedding with the reference's, where the task is one or there are no labels; else None.
        `cka`: interval, as `embeddings.cka_interval`, of an embedding with the reference's, of any width; else None.
        `largest_difference`: see `difference`. `golden`: how it contradicts the golden outputs, or "".
        An interval is `value`, `low`, `high` and `undefined` (see `intervals.Interval`).
    """
    measures = [_measure(each, reference, labels, groups, seed) for each in answers]
    base = None if reference is None else measures[[each is reference for each in answers].index(True)]

    def everything(rows: Array) -> dict[tuple[str, ...], float]:
        before = {} if base is None else base(rows)
        found: dict[tuple[str, ...], float] = {}
        for each, measure in zip(answers, measures):
            for path, value in measure(rows).items():
                found[(each.contender.name, *path)] = value
                if each is not reference and path[0] == "metrics" and path in before:
                    found[(each.contender.name, "difference", *path[1:])] = value - before[path]
        return found

    drawn = resampled(everything, groups, draws=draws, seed=seed)
    intervals = {path: interval(value, column, LEVEL) for path, (value, column) in drawn.items()}
    for each in answers:
        if reference is None or each is reference:
            continue
        own, other = (drawn.get((model.contender.name, "calibration_slope")) for model in (each, reference))
        if own is not None and other is not None:
            intervals[each.contender.name, "slope_loss"] = slope_loss(own, other, LEVEL)
    return [
        _record(each, reference, intervals) | _beside(each, reference, labels) | {"cka": _cka(each, reference, groups, seed)}
        for each in answers
    ]


def between(answers: Sequence[Answers]) -> Iterator[dict[str, Any]]:
    """Each pair of contenders once: how far apart they are on these images, and whether that is more than round-off.

    Returns:
        `one`, `other`; `largest_difference` (see `difference`); `flips`, a count, None for an embedding; `exact`, whether both
        run in fp32, so that more than `parity.LIMIT` between them is an engine's fault; `passed`, False where it is.
    """
    for number, one in enumerate(answers):
        for other in answers[number + 1 :]:
            largest = difference(other, one)
            exact = one.contender.precision == other.contender.precision == "fp32"
            yield {
                "one": one.contender.name,
                "other": other.contender.name,
                "largest_difference": largest,
                "flips": None if one.decided is None else int(flipped(other, one).sum()),
                "exact": exact,
                "passed": not exact or (largest is not None and largest <= LIMIT),
            }


def difference(one: Answers, other: Answers) -> float | None:
    """The largest difference of any probability on any image, 0 to 1; of an embedding in units of the other's standard
    deviation, None where their widths differ."""
    if one.probabilities is not None and other.probabilities is not None:
        return float(np.abs(one.probabilities - other.probabilities).max())
    if one.embedding is None or other.embedding is None or one.embedding.shape != other.embedding.shape:
        return None
    return float(in_deviations(one.embedding, other.embedding).max())


def _measure(each: Answers, reference: Answers | None, labels: Array | None, groups: Array, seed: int) -> Measure:
    """The numbers of one contender on any draw of the images, by their path in its record."""
    scores: Scores | None = None
    operating: Operating | None = None
    slope: Slope | None = None
    right: dict[str, Array] = {}
    if labels is not None and each.probabilities is not None:
        assert each.decided is not None
        slope = Slope.of_probabilities(each.probabilities, labels, each.contender.task)
        scores = Scores(each.probabilities, labels, each.contender.task)
        operating = Operating(each.probabilities, each.decided, labels, each.contender.task)
    elif labels is not None and each.embedding is not None and len(np.unique(groups)) > 1:
        right["knn_accuracy"] = knn_right(each.embedding, labels, groups=groups)
        right["probe_accuracy"] = probe_right(each.embedding, labels, groups, seed=seed)
    compared = reference is not None and each is not reference
    changed = flipped(each, reference) if compared and reference is not None and each.decided is not None else None
    cosine = each.cosine if compared and (scores is None) else None

    def measure(rows: Array) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        if scores is not None:
            found |= {("metrics", name): value for name, value in scores.metrics(rows).items()}
            if len(scores.labels) > 1:
                for name, values in scores.by_label(rows).items():
                    found |= {("labels", label, name): float(value) for label, value in zip(scores.labels, values)}
        if operating is not None:
            found |= {("operating", name): value for name, value in operating.metrics(rows).items()}
        if slope is not None:
            found[("calibration_slope",)] = slope.of(rows)
        # neighbours and probes are those of all images: in a draw, a copy of an image teaches nothing about it
        found |= {("metrics", name): float(values[rows].mean()) for name, values in right.items()}
        if changed is not None:
            found[("flips",)] = float(changed[rows].mean())
        if cosine is not None:
            found[("mean_cosine",)] = float(cosine[rows].mean())
        return found

    return measure


def _cka(each: Answers, reference: Answers | None, groups: Array, seed: int) -> dict[str, Any] | None:
    if each.embedding is None or reference is None or reference.embedding is None or each is reference:
        return None
    return cka_interval(each.embedding, reference.embedding, groups, seed=seed, level=LEVEL)._asdict()


def _beside(each: Answers, reference: Answers | None, labels: Array | None) -> dict[str, Any]:
    """What has no interval: calibration, the ROC curves, and the tests against the reference."""
    if labels is None or each.probabilities is None:
        return {"calibration": None, "roc": {}, "tests": None}
    task = each.contender.task
    tests = None if reference is None or each is reference else paired_tests(each, reference, labels)
    return {
        "calibration": _calibration(each.probabilities, labels, task),
        "roc": _curves(each.probabilities, labels, task),
        "tests": tests,
    }


def _curves(probabilities: Array, labels: Array, task: Task) -> dict[str, dict[str, list[float]]]:
    truth = truth_of(labels, task)
    found = {}
    for column, label in list(enumerate(task.labels))[1 if task.kind == "binary" else 0 :]:
        curve = thinned(roc(probabilities[:, column], truth[:, column]))
        at = [sensitivity_at(probabilities[:, column], truth[:, column], each) for each in SPECIFICITIES]
        found[label] = {name: points.tolist() for name, points in curve._asdict().items()} | {"sensitivity_at": at}
    return found


def _calibration(probabilities: Array, labels: Array, task: Task) -> dict[str, Any]:
    """`ece`, with bins of equal width, and `ece_adaptive`, of equal mass; `brier`, its parts, by name; and `reliability`, the
    points of the diagram, by name, a list per column of the forecasts."""
    found, rows = forecasts(probabilities, labels, task), np.arange(len(labels))
    parts, points = brier_parts(probabilities, labels, task), found.reliability(rows)
    return {
        "ece": found.ece(rows),
        "ece_adaptive": found.ece(rows, adaptive=True),
        "brier": parts._asdict() | {"generalized_resolution": parts.generalized_resolution},
        "reliability": {name: values.tolist() for name, values in points._asdict().items()},
    }


def _record(each: Answers, reference: Answers | None, intervals: Mapping[tuple[str, ...], Interval]) -> dict[str, Any]:
    mine = {path[1:]: measured._asdict() for path, measured in intervals.items() if path[0] == each.contender.name}
    flips = mine.get(("flips",))
    by_label: dict[str, dict[str, Any]] = {}
    for path, measured in mine.items():
        if path[0] == "labels":
            by_label.setdefault(path[1], {})[path[2]] = measured
    return {
        "name": each.contender.name,
        "precision": each.contender.precision,
        "reference": each is reference,
        "metrics": {path[1]: measured for path, measured in mine.items() if path[0] == "metrics"},
        "difference": {path[1]: measured for path, measured in mine.items() if path[0] == "difference"},
        "operating": {path[1]: measured for path, measured in mine.items() if path[0] == "operating"},
        "labels": by_label,
        "flips": flips and _flips(each, reference, flips),
        "calibration_slope": mine.get(("calibration_slope",)),
        "slope_loss": mine.get(("slope_loss",)),
        "mean_cosine": mine.get(("mean_cosine",)),
        "largest_difference": None if reference is None or each is reference else difference(each, reference),
        "golden": each.contender.wrong,
    }


def _flips(each: Answers, reference: Answers | None, share: dict[str, Any]) -> dict[str, Any]:
    assert reference is not None
    changed = flipped(each, reference)
    return {"count": int(changed.sum()), "of": len(changed), "share": share}


def flipped(one: Answers, other: Answers) -> Array:
    """Which images get another decision, bool `[N]`; of several labels any may differ."""
    assert one.decided is not None
    assert other.decided is not None
    differs = one.decided != other.decided
    return np.asarray(differs.any(axis=1) if differs.ndim == 2 else differs)
