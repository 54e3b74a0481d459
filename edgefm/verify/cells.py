"""Numbers and intervals as the text of a table's cell: a value, and its interval or "". Not the tables (`page.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Record = Mapping[str, Any]
Cell = tuple[str, str]


def measured(interval: Record | None) -> Cell:
    """Three digits, and the interval where it has a width."""
    return shown(interval, lambda value: f"{value:.3f}", "-")


def points(interval: Record | None) -> Cell:
    """The same of a difference, in points of 0.01 with a sign."""

    def signed(value: float) -> str:
        text = f"{100 * value:+.2f}"
        return "0.00" if float(text) == 0 else text

    return shown(interval, signed, ", ")


def percent(interval: Record | None) -> Cell:
    text, rest = shown(interval, lambda value: f"{100 * value:.2f}", "-")
    return (text if text == "-" else f"{text} %"), rest


def shown(interval: Record | None, text: Callable[[float], str], between: str) -> Cell:
    """A value and its interval, "" where there is none or it has no width to be seen."""
    if interval is None or math.isnan(interval["value"]):
        return "-", ""
    if math.isnan(interval["low"]):
        return text(interval["value"]), ""
    low, high = text(interval["low"]), text(interval["high"])
    return text(interval["value"]), "" if low == high else f"{low}{between}{high}"


def plain(found: object) -> Cell:
    return ("-" if found is None else str(found)), ""


def small(number: float | None) -> Cell:
    return ("-" if number is None else f"{number:.2g}"), ""
