"""The tables of subgroups and of conformal sets: how far the worst group is from all images, and whom the sets cover.

Not the numbers (`subgroups.py`, `conformal.py`) and not the other tables (`page.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .cells import Cell, measured, points
from .section import NAMES, Section

Record = Mapping[str, Any]
SHOWN = ("auc", "sensitivity", "specificity", "knn_accuracy", "mean_cosine")  # on a terminal
EVERY = {**NAMES, "mean_cosine": "mean cosine"}


def part_tables(found: Record) -> Iterator[Section]:
    """The gap of the worst group by each column, for a terminal; the groups themselves are the report's."""
    names = [each["name"] for each in found["variants"]]
    for record in found.get("subgroups", ()):
        metrics = [metric for metric in SHOWN if any(metric in record["worst"].get(name, {}) for name in names)]
        if metrics:
            rows = [(name, [_gap(record, name, metric) for metric in metrics]) for name in names]
            rows += [
                (f"{name}: change", [points(record["gap_change"][name].get(metric)) for metric in metrics])
                for name in names
                if name in record["gap_change"]
            ]
            title = f"Worst group by {record['column']}, points of 0.01 below all"
            yield Section(title, [EVERY[metric] for metric in metrics], rows, "subgroups")


def set_tables(found: Record, *, everything: bool) -> Iterator[Section]:
    """How often sets hold the true label, how large they are, and with `everything` by class and by group."""
    records = found.get("conformal", {})
    if not records:
        return
    heads = {"coverage": "coverage", "size": "labels", "empty": "empty", "answered": "answered", "right": "right of these"}
    names = [name for name in heads if any(name in each for each in records.values())]
    nominal = ", ".join(f"{100 * share:g} %" for share in dict.fromkeys(each["nominal"] for each in records.values()))
    rows = [(name, [measured(each.get(column)) for column in names]) for name, each in records.items()]
    yield Section(f"Conformal sets, made for a coverage of {nominal}", [heads[name] for name in names], rows, "sets")
    if not everything:
        return
    parts = [("class", [each.get("classes", {}) for each in records.values()])]
    for record in found["subgroups"]:
        column = record["column"]
        parts.append((column, [each.get("subgroups", {}).get(column, {}) for each in records.values()]))
    for what, shares in parts:
        labels = list(dict.fromkeys(label for each in shares for label in each))
        if labels:
            rows = [(label, [measured(each.get(label)) for each in shares]) for label in labels]
            yield Section(f"Coverage of the sets by {what}", list(records), rows, "sets")


def _gap(record: Record, name: str, metric: str) -> Cell:
    if metric not in record["worst"][name]:
        return "-", ""
    text, interval = points(record["gap"][name][metric])
    return f"{record['worst'][name][metric]} {text}", interval
