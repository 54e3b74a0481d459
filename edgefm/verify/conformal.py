"""Conformal sets: the quantile that makes them hold the true label as often as promised, and whether they do.

Not the sets themselves (`runtime.decide.sets`). Split conformal prediction (Papadopoulos et al. 2002) with the score of
Sadinle, Lei and Wasserman (2019), "LAC": s = 1 - p[true label]. Of n images that no model has learned from,

    quantile = the k-th smallest score, k = ceil((n + 1) coverage),      set = {labels with 1 - p <= quantile}

holds the true label of a further image with a probability of at least `coverage`, whatever the model, if that image comes as
the n did; over draws of the n the coverage is Beta(k, n + 1 - k) where scores do not tie (Vovk 2012). It is a promise on
average: not for each class and not for each group, so these are measured. Several images of a patient are not as many
independent ones: then it is no more than approximate.

LAC and not APS (Romano, Sesia and Candes 2020): its sets are the smallest on average for their coverage, they need no
randomness, so that an image has one answer on every device, and they may be empty, which says that the image is like none that
the model knows. APS covers hard classes more evenly, with larger sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from ..errors import InputError
from ..runtime.decide import sets, sure
from ..spec.task import Task
from .answers import Answers
from .columns import Column, tellable
from .intervals import DRAWS, interval, weights
from .scores import checked
from .statement import LEVEL
from .weighted import share

Array = npt.NDArray[Any]


def fewest(coverage: float) -> int:
    """How many images it takes for a quantile below 1: ceil((n + 1) coverage) <= n, so n >= coverage / (1 - coverage)."""
    n = max(1, math.floor(coverage / (1 - coverage)))
    while _rank(n, coverage) > n:
        n += 1
    return n


def quantile(probabilities: Array, labels: Array, task: Task, coverage: float) -> float:
    """The quantile of the scores 1 - p[true label], 0 to 1.

    Args:
        probabilities: `[n, K]`, 0 to 1. labels: int `[n]`, class index. task: binary or multiclass.
        coverage: above 0, below 1.

    Raises:
        InputError: too few images, or a task whose images have not one label each.
    """
    if task.kind not in ("binary", "multiclass"):
        raise InputError(f"the task is {task.kind}", expected="one label for each image, for conformal sets")
    probabilities, labels = checked(probabilities, labels, task)
    n, k = len(labels), _rank(len(labels), coverage)
    if k > n:
        raise InputError(
            f"{n} image{'s' * (n != 1)} cannot promise a coverage of {coverage:g}",
            expected=f"at least {fewest(coverage)} with labels",
            do="label more images of 'calibrate', or ask for less coverage",
        )
    return float(np.sort(1 - probabilities[np.arange(n), labels])[k - 1])


def conformal_sets(
    answers: Sequence[Answers],
    labels: Array | None,
    columns: Sequence[Column],
    who: Array,
    *,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """What the sets of each contender that has a quantile are worth; by name, empty where none has.

    Args:
        labels: as `Scores` takes them, or None. columns: what makes subgroups. who: `[N]`, who belongs together.

    Returns:
        `nominal`, the coverage promised, and `quantile`; `size`: labels in a set, mean; `empty`: the share of sets without any;
        `answered`: the share that `run --abstain` answers. With labels `coverage`: the share of sets with the true label;
        `classes`, by label, and `subgroups`, by column and value, but for those that are not told: the same; `right`: the share
        of those answered whose decision is right. All but the first two are intervals: `value`, `low`, `high`, `undefined` (see
        `intervals.Interval`).
    """
    having = [each for each in answers if each.contender.task.conformal is not UNSET and each.probabilities is not None]
    if not having:
        return {}
    shares = [_shares(each, labels, columns, who) for each in having]
    one = np.ones((1, len(who)))
    drawn: list[dict[tuple[str, ...], list[Array]]] = [{path: [] for path in each} for each in shares]
    for block in weights(who, draws=draws, seed=seed):
        for parts, kept in zip(shares, drawn):
            for path, (values, among) in parts.items():
                kept[path].append(share(block[:, among], values[among]))
    found = {}
    for each, parts, kept in zip(having, shares, drawn):
        stated = each.contender.task.conformal
        assert stated is not UNSET
        record: dict[str, Any] = {"nominal": stated.coverage, "quantile": stated.quantile}
        for path, (values, among) in parts.items():
            value = float(share(one[:, among], values[among])[0])
            place = record
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = interval(value, np.concatenate(kept[path] or [np.empty(0)]), LEVEL)._asdict()
        found[each.contender.name] = record
    return found


def _shares(
    each: Answers, labels: Array | None, columns: Sequence[Column], who: Array
) -> Mapping[tuple[str, ...], tuple[Array, Array]]:
    """What is averaged, float `[N]`, and over which images, bool `[N]`, by its path in the record."""
    assert each.probabilities is not None
    assert each.decided is not None
    task = each.contender.task
    held = sets(each.probabilities, task)
    everyone, size, answered = np.ones(len(held), bool), held.sum(axis=1), sure(held, each.decided)
    found: dict[tuple[str, ...], tuple[Array, Array]] = {
        ("size",): (size, everyone),
        ("empty",): (size == 0, everyone),
        ("answered",): (answered, everyone),
    }
    if labels is None:
        return found
    covered = held[np.arange(len(held)), labels]
    found[("coverage",)] = covered, everyone
    found[("right",)] = each.decided == labels, answered
    for k, label in enumerate(task.labels):
        found["classes", label] = covered, labels == k
    for column in columns:
        for g, (value, may) in enumerate(zip(column.values, tellable(column, who))):
            if may:
                found["subgroups", column.name, value] = covered, column.member == g
    return found


def _rank(n: int, coverage: float) -> int:
    """k. What is a whole number but for rounding is that number."""
    return math.ceil((n + 1) * coverage - 1e-9)
