"""Which columns of a data set make subgroups, and who is in which group.

Not what the groups are worth (`subgroups.py`). A report leaves the device, so no column may name a patient or an image: a value
that fewer than `FEWEST` patients have is not told, and a column with more values than half the patients makes no groups. Rare
values together may still be one patient's: of fewer than `FEWEST` patients no number is told either (`tellable`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]
FEWEST = 5  # patients with the same value: fewer could be recognised
MOST_VALUES = 20
MOST_COLUMNS = 5
EMPTY = "(not stated)"
RARE = f"(fewer than {FEWEST} each)"


class Column(NamedTuple):
    """One column.

    Attributes:
        name: as in the data.
        values: the groups, in the order of their names, numbers by value; then `EMPTY` and `RARE` where there are such images.
        member: int64 `[N]`, the group of each image, a position in `values`.
    """

    name: str
    values: tuple[str, ...]
    member: Array


def columns(
    groups: Mapping[str, Sequence[str]], by: Sequence[str], who: Array, *, named: bool = True
) -> tuple[list[Column], list[str]]:
    """The columns asked for, or without any all that make subgroups, if they are at most `MOST_COLUMNS`.

    A column makes subgroups if its images have at least two values, at most `MOST_VALUES`, and at most one value for every two
    patients. Empty cells are a group, `EMPTY`. Values of fewer than `FEWEST` patients are one group, `RARE`, together.

    Args:
        groups: column name to one value per image, "" where empty, as `data.Dataset` has them. by: names of columns.
        who: `[N]`, who belongs together, such as the patient of each image. named: whether these are patients. If not, any
            column may be the patients under another name, and none is taken that was not asked for.

    Returns:
        The columns, and a sentence for each that was left out without being asked for.

    Raises:
        InputError: a column asked for that is not there, or that makes no subgroups.
    """
    if by:
        return [_asked(name, groups, who) for name in dict.fromkeys(by)], []
    if groups and not named:
        return [], ["no patients are named, so subgroups are made only of the columns that --by names"]
    fit, notes = [], []
    for name, values in groups.items():
        if why := _unfit(values, who):
            notes.append(f"column '{name}' makes no subgroups: {why}")
        else:
            fit.append(name)
    if len(fit) > MOST_COLUMNS:
        return [], [*notes, f"{len(fit)} columns could make subgroups ({', '.join(fit)}); --by says which"]
    return [_column(name, groups[name], who) for name in fit], notes


def tellable(column: Column, who: Array) -> list[bool]:
    """Of each group whether its numbers may be told: not those of `RARE`, if it has fewer than `FEWEST` patients.

    No more than that: how many changed in all, less those in the other groups, is still how many changed in this one.
    """
    return [value != RARE or len(np.unique(who[column.member == g])) >= FEWEST for g, value in enumerate(column.values)]


def _asked(name: str, groups: Mapping[str, Sequence[str]], who: Array) -> Column:
    if name not in groups:
        near = difflib.get_close_matches(name, groups, n=3, cutoff=0.5)
        listed = " or ".join(near) or ", ".join(groups) or "a CSV with columns beside file, label, patient and split"
        raise InputError(f"the data have no group column '{name}'", expected=listed, do="correct --by")
    if why := _unfit(groups[name], who):
        raise InputError(
            f"column '{name}' makes no subgroups: {why}",
            expected=f"2 to {MOST_VALUES} values, at most half as many as patients",
            do="choose another --by, or write ranges instead of single values",
        )
    return _column(name, groups[name], who)


def _unfit(values: Sequence[str], who: Array) -> str:
    """Why a column makes no subgroups, without telling any value; "" if it does."""
    count, people = len({value for value in values if value}), len(np.unique(who))
    if len(set(values)) < 2:
        return "all images have the same value"
    if 2 * count > people:
        return f"{count} values for {people} patients, which could name them"
    if count > MOST_VALUES:
        return f"{count} values, more than {MOST_VALUES}"
    if set(_told(values, who).values()) == {RARE}:
        return f"each of its values is that of fewer than {FEWEST} patients"
    return ""


def _told(values: Sequence[str], who: Array) -> dict[str, str]:
    """Value to the group that its images are in."""
    people: dict[str, set[Any]] = {}
    for value, one in zip(values, who.tolist()):
        people.setdefault(value, set()).add(one)
    return {value: value or EMPTY if len(them) >= FEWEST else RARE for value, them in people.items()}


def _column(name: str, values: Sequence[str], who: Array) -> Column:
    told, last = _told(values, who), (EMPTY, RARE)
    order = sorted(set(told.values()), key=lambda value: (last.index(value) + 1 if value in last else 0, *_rank(value)))
    return Column(name, tuple(order), np.array([order.index(told[value]) for value in values], np.int64))


def _rank(value: str) -> tuple[int, float, str]:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return (0, number, value) if math.isfinite(number) else (1, 0.0, value)
