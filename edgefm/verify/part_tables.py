"""The tables of subgroups and of conformal sets: how far the worst group is from all images, and whom the sets cover.

Not the numbers (`subgroups.py`, `conformal.py`) and not the other tables (`page.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .cells import Cell, plain, points, value
from .page import NAMES, Section

Record = Mapping[str, Any]
SHOWN = ("auc", "sensitivity", "specificity", "knn_accuracy")  # on a terminal
EVERY = {**NAMES, "mean_cosine": "mean cosine"}


def part_tables(found: Record, *, everything: bool) -> Iterator[Section]:
    """The gap of the worst group by each column, and with `everything`, for a page of any width, the groups themselves."""
    names = [each["name"] for each in found["variants"]]
    for record in found.get("subgroups", ()):
        metrics = [
            metric
            for metric in (EVERY if everything else SHOWN)
            if any(metric in record["worst"].get(name, {}) for name in names)
        ]
        if metrics:
            head = [EVERY[metric] for metric in metrics]
            rows = [(name, [_gap(record, name, metric) for metric in metrics]) for name in names]
            rows += [
                (f"{name}: change", [points(record["gap_change"][name].get(metric)) for metric in metrics])
                for name in names
                if name in record["gap_change"]
            ]
            title = f"The worst group by {record['column']}, and how far below all images, in points of 0.01"
            yield Section(title if everything else f"Worst group by {record['column']}, points of 0.01 below all", head, rows)
        if everything:
            yield _groups(record, names, [metric for metric in EVERY if _known(record, metric)])


def set_tables(found: Record, *, everything: bool) -> Iterator[Section]:
    """How often sets hold the true label, how large they are, and with `everything` by class and by group."""
    records = found.get("conformal", {})
    if not records:
        return
    heads = {"coverage": "coverage", "size": "labels", "empty": "empty", "answered": "answered", "right": "right of these"}
    names = [name for name in heads if any(name in each for each in records.values())]
    nominal = ", ".join(f"{100 * share:g} %" for share in dict.fromkeys(each["nominal"] for each in records.values()))
    rows = [(name, [value(each.get(column)) for column in names]) for name, each in records.items()]
    yield Section(f"Conformal sets, made for a coverage of {nominal}", [heads[name] for name in names], rows)
    if not everything:
        return
    parts = [("class", [each.get("classes", {}) for each in records.values()])]
    for record in found["subgroups"]:
        column = record["column"]
        parts.append((column, [each.get("subgroups", {}).get(column, {}) for each in records.values()]))
    for what, shares in parts:
        labels = list(dict.fromkeys(label for each in shares for label in each))
        if labels:
            rows = [(label, [value(each.get(label)) for each in shares]) for label in labels]
            yield Section(f"Coverage of the sets by {what}", list(records), rows)


def _gap(record: Record, name: str, metric: str) -> Cell:
    if metric not in record["worst"][name]:
        return "-", ""
    text, interval = points(record["gap"][name][metric])
    return f"{record['worst'][name][metric]} {text}", interval


def _known(record: Record, metric: str) -> bool:
    return any(metric in metrics for group in record["groups"] for metrics in group["metrics"].values())


def _groups(record: Record, names: list[str], metrics: list[str]) -> Section:
    rows = []
    for group in record["groups"]:
        size = f"{group['images']} images of {group['groups']}"
        for name in names:
            flips = group["flips"].get(name)
            cells = [plain(size if group["judged"] else f"{size}, too few to judge"), plain(flips and _flips(flips))]
            rows.append((f"{group['value']}: {name}", [*cells, *(value(group["metrics"][name].get(each)) for each in metrics)]))
    return Section(f"Groups by {record['column']}", ["size", "decisions changed", *(EVERY[each] for each in metrics)], rows)


def _flips(flips: Record) -> str:
    return f"{flips['count']} of {flips['of']}"
