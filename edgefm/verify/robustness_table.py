"""What `robustness.py` found, as tables. Not the numbers themselves, and no heat map (the report draws it)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from .cells import Cell, measured, points
from .section import Section

Record = Mapping[str, Any]
SUMMARY = {"mean_error": "mean error", "increase": "points from clean", "difference": "points from reference", "mce": "mCE"}
POINTS = ("increase", "difference")  # shown in points of 0.01


def robustness_tables(found: Record, *, everything: bool) -> Iterator[Section]:
    """The summary, and with `everything` each corruption, its mean over the severities. `found`: the findings' `robustness`."""
    names = [what for what in SUMMARY if any(what in each for each in found["summary"].values())]
    head = ["clean error", *(SUMMARY[what] for what in names)]
    rows = [
        (
            name,
            [
                _number(found["clean"][name]["balanced_error"]),
                *((points if what in POINTS else measured)(each.get(what)) for what in names),
            ],
        )
        for name, each in found["summary"].items()
    ]
    yield Section(f"Balanced error of {found['images']} images of {found['modality']}, corrupted", head, rows, "robustness")
    if everything:
        contenders = list(found["clean"])
        kinds: dict[str, list[Record]] = {}
        for each in found["corruptions"]:
            kinds.setdefault(each["name"], []).append(each["variants"])
        rows = [(kind.replace("_", " "), [_number(_mean(cells, name)) for name in contenders]) for kind, cells in kinds.items()]
        yield Section("Balanced error by corruption, the mean of its severities", contenders, rows, "robustness")


def _mean(cells: list[Record], name: str) -> float:
    return sum(float(each[name]["balanced_error"]) for each in cells) / len(cells)


def _number(value: float) -> Cell:
    return ("-" if math.isnan(value) else f"{value:.3f}"), ""
