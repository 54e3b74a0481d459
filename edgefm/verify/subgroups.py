"""What the answers are worth in each group of the images, such as each scanner: the worst group, and whether it got worse.

Not which groups there are (`columns.py`), and no gate: of many groups one is worst by chance, so a person has to look at these.

A group is judged with at least `IMAGES` images of at least `PATIENTS` patients, and by a metric only with at least `CLASS`
images of each class that the metric counts: positives for sensitivity, negatives for specificity, both for the others. Of
several classes or labels that is each one that any image of all shows: a mean over fewer of them is another metric. Below that
the numbers are told, but no group is the worst by them. Of rare values of too few patients no numbers are told at all
(`columns.tellable`), and chi-squared is without them.

The gap of a metric is all images' value less the worst group's (of the Brier score the other way round): above 0, the group is
worse off. Its interval holds the group fixed. It does not know that the group was chosen as the worst, so on other images the
gap is smaller, as a rule, and the more so the more groups there are. The change of the gap is that of the same group: the
variant's gap less the reference's, from the same draws, so that what is hard about the group cancels. Above 0, the group lost
more than all images did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec.task import Task
from .answers import Answers
from .chi_squared import chi_squared
from .columns import RARE, Column, tellable
from .gate import RISES
from .intervals import DRAWS, interval, weights
from .metrics import knn_right
from .scores import truth_of
from .statement import LEVEL, flipped
from .weighted import Weighted, share

Array = npt.NDArray[Any]
Measure = Callable[[Array], Mapping[str, Array]]
IMAGES, PATIENTS, CLASS = 30, 10, 10
POSITIVES, NEGATIVES = ("sensitivity",), ("specificity",)


def subgroups(
    columns: Sequence[Column],
    answers: Sequence[Answers],
    reference: Answers | None,
    labels: Array | None,
    who: Array,
    *,
    seed: int,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """One record per column; all intervals are from the draws of whole patients that `statement.statements` has.

    Args:
        reference: one of `answers`, or None: then nothing is compared.
        labels: as `Scores` takes them; for an embedding any classes; None without.
        who: `[N]`, who belongs together, such as the patient of each image.

    Returns:
        `column`, its name, and
        `groups`: `value`; `images` and `groups`, how many images and patients; `judged`; `enough`, the metrics that it is
        judged by; `metrics` and `difference` (from the reference), by contender and name, an interval each; `flips`, by
        contender, `count` and `of`. The last three are empty where the patients are too few to be told of.
        `worst`: by contender and metric the value of the worst group, where at least two are judged.
        `gap`, `gap_change`: by contender and metric, of that group, an interval each (see above).
        `chi_squared`: by contender, whether decisions change more often in some groups, as `chi_squared.ChiSquared`.
        Metrics are those of `statement.statements`, of an embedding `mean_cosine`, too. Of the reference, and without one,
        nothing stands under `difference`, `flips`, `gap_change` and `chi_squared`. An interval is `value`, `low`, `high` and
        `undefined` (see `intervals.Interval`).
    """
    if not columns:
        return []
    rows = [[np.flatnonzero(column.member == g) for g in range(len(column.values))] for column in columns]
    right = [_right(each, labels, who) for each in answers]
    parts = [np.arange(len(who)), *chain.from_iterable(rows)]
    measures = [[_measure(each, each is reference, knn, labels, part) for each, knn in zip(answers, right)] for part in parts]
    found = [[each(np.ones((1, len(part)))) for each in own] for own, part in zip(measures, parts)]
    drawn: list[list[dict[str, list[Array]]]] = [[{name: [] for name in each} for each in own] for own in found]
    for block in weights(who, draws=draws, seed=seed):
        for own, part, kept in zip(measures, parts, drawn):
            taken = block[:, part]
            for measure, names in zip(own, kept):
                for name, values in measure(taken).items():
                    names[name].append(values)
    numbers = [[_Numbers(*both) for both in zip(*each)] for each in zip(found, drawn)]
    whole, rest = numbers[0], iter(numbers[1:])
    return [
        _record(column, part, whole, [next(rest) for _ in part], answers, reference, labels, who, seed)
        for column, part in zip(columns, rows)
    ]


class _Numbers:
    """What one contender's metrics are on some images, and what they were in each draw: by name, a float and `[D]`."""

    def __init__(self, value: Mapping[str, Array], drawn: Mapping[str, Sequence[Array]]) -> None:
        self.value = {name: float(each[0]) for name, each in value.items()}
        self.drawn = {name: np.concatenate(each or [np.empty(0)]) for name, each in drawn.items()}

    def __sub__(self, other: _Numbers) -> _Numbers:
        names = [name for name in self.value if name in other.value]
        return _Numbers(
            {name: np.array([self.value[name] - other.value[name]]) for name in names},
            {name: [self.drawn[name] - other.drawn[name]] for name in names},
        )

    def interval(self, name: str, sign: float = 1.0) -> dict[str, Any]:
        return interval(sign * self.value[name], sign * self.drawn[name], LEVEL)._asdict()

    def intervals(self) -> dict[str, Any]:
        return {name: self.interval(name) for name in self.value}


def notes(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a person must know to read the records: which groups are too small, and what looking at many of them does."""
    for record in found:
        small = [group["value"] for group in record["groups"] if not group["judged"]]
        if small:
            yield f"too small to judge by {record['column']}: {', '.join(small)}"
    count = sum(group["judged"] for record in found for group in record["groups"])
    if count > 1:
        yield f"{count} groups were looked at, and of many one is worst by chance"


def _right(each: Answers, labels: Array | None, who: Array) -> Array | None:
    """Whether the neighbours of an image, among all images, of other patients are right about it, bool `[N]`; None without."""
    if labels is None or each.embedding is None or len(np.unique(who)) < 2:
        return None
    return knn_right(each.embedding, labels, groups=who)


def _measure(each: Answers, is_reference: bool, right: Array | None, labels: Array | None, rows: Array) -> Measure:
    """The metrics of one contender on these images, as a function of how often each of them was drawn, `[D, len(rows)]`."""
    if each.probabilities is not None:
        if labels is None:
            return lambda drawn: {}
        return Weighted(each.probabilities[rows], labels[rows], each.contender.task).metrics
    means: dict[str, Array] = {} if right is None else {"knn_accuracy": right[rows]}
    if each.cosine is not None and not is_reference:
        means["mean_cosine"] = each.cosine[rows]
    return lambda drawn: {name: share(drawn, values) for name, values in means.items()}


def _record(
    column: Column,
    rows: Sequence[Array],
    whole: Sequence[_Numbers],
    groups: Sequence[Sequence[_Numbers]],
    answers: Sequence[Answers],
    reference: Answers | None,
    labels: Array | None,
    who: Array,
    seed: int,
) -> dict[str, Any]:
    names = [each.contender.name for each in answers]
    base = None if reference is None else [each is reference for each in answers].index(True)
    others = [] if base is None else [v for v in range(len(answers)) if v != base]
    task, told, enough, shown = answers[0].contender.task, [], [], tellable(column, who)
    for value, part, own, may in zip(column.values, rows, groups, shown):
        patients = len(np.unique(who[part]))
        judged = len(part) >= IMAGES and patients >= PATIENTS and value != RARE
        enough.append(_enough(own, labels, part, task) if judged else [])
        flips = _flips(answers, base) if may else ()
        told.append(
            {
                "value": value,
                "images": len(part),
                "groups": patients,
                "judged": judged,
                "enough": enough[-1],
                "metrics": {name: each.intervals() for name, each in zip(names, own)} if may else {},
                "difference": {names[v]: (own[v] - own[base]).intervals() for v in others} if may and base is not None else {},
                "flips": {names[v]: {"count": int(changed[part].sum()), "of": len(part)} for v, changed in flips},
            }
        )
    worst: dict[str, dict[str, str]] = {name: {} for name in names}
    gap: dict[str, dict[str, Any]] = {name: {} for name in names}
    change: dict[str, dict[str, Any]] = {names[v]: {} for v in others}
    for v, name in enumerate(names):
        for metric in whole[v].value:
            sign = -1.0 if metric in RISES else 1.0
            able = [g for g in range(len(groups)) if metric in enough[g] and np.isfinite(groups[g][v].value[metric])]
            if len(able) < 2:
                continue
            g = min(able, key=lambda g: sign * groups[g][v].value[metric])
            worst[name][metric] = column.values[g]
            gap[name][metric] = (whole[v] - groups[g][v]).interval(metric, sign)
            if base is not None and v != base and metric in whole[base].value:
                moved = (whole[v] - groups[g][v]) - (whole[base] - groups[g][base])
                change[name][metric] = moved.interval(metric, sign)
    rows = [part for part, may in zip(rows, shown) if may]
    sizes = np.array([len(part) for part in rows], np.int64)
    tests = {
        names[v]: chi_squared(np.array([changed[part].sum() for part in rows], np.int64), sizes, seed=seed)._asdict()
        for v, changed in _flips(answers, base)
    }
    return {"column": column.name, "groups": told, "worst": worst, "gap": gap, "gap_change": change, "chi_squared": tests}


def _flips(answers: Sequence[Answers], base: int | None) -> Iterator[tuple[int, Array]]:
    """Each contender but the reference, by number, and which images get another decision, bool `[N]`."""
    for v, each in enumerate(answers):
        if base is not None and v != base and each.decided is not None:
            yield v, flipped(each, answers[base])


def _enough(own: Sequence[_Numbers], labels: Array | None, rows: Array, task: Task) -> list[str]:
    """The metrics that these images are enough for."""
    names = list(dict.fromkeys(name for each in own for name in each.value))
    if labels is None or task.kind == "embedding":
        return names
    truth = truth_of(labels, task)
    if task.kind == "binary":
        truth = truth[:, 1:]
    here = truth[rows]
    positives, negatives = _fewest(here, truth), _fewest(~here, ~truth)
    return [name for name in names if (name in NEGATIVES or positives >= CLASS) and (name in POSITIVES or negatives >= CLASS)]


def _fewest(here: Array, everywhere: Array) -> int:
    """Images of the rarest class, of the classes that there are at all; bool `[n, K]` and `[N, K]`."""
    return int(here.sum(axis=0)[everywhere.any(axis=0)].min(initial=len(here)))
