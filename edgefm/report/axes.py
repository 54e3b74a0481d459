"""What the figures have in common: panels in a grid, unit squares, lines that differ in more than colour, a legend.

Not what is drawn on them (`plots.py`, `cost.py`, `groups.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import DASHES, SERIES, WIDTH

COLUMNS = 3


def known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def ends(interval: Mapping[str, float]) -> tuple[float, float, float]:
    """Low, value and high; the value three times where there is no interval."""
    value = interval["value"]
    return (interval["low"], value, interval["high"]) if known(interval["low"]) else (value, value, value)


def line(number: int) -> dict[str, Any]:
    """Colour, dashes and width of a curve; later ones are thinner, so that one that is covered is still seen."""
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[number % len(DASHES)],
        "linewidth": max(1.2, 2.4 - 0.4 * number),
    }


def size(panels: int) -> tuple[float, float]:
    """Height and width in inches of a figure of so many unit squares."""
    if panels == 1:
        return 4.0, 3.8
    return 0.8 + 1.6 * math.ceil(panels / COLUMNS), WIDTH


def panels(drawing: Any, titles: Sequence[str]) -> list[tuple[Any, str]]:
    """An empty axis per title, at most `COLUMNS` in a row; a single one has no title."""
    columns = min(COLUMNS, len(titles))
    rows = math.ceil(len(titles) / columns)
    grid = list(drawing.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes in grid[len(titles) :]:
        axes.remove()
    found = list(zip(grid, titles))
    if len(titles) > 1:
        for axes, title in found:
            axes.set_title(plain_text(title))
    return found


def square(drawing: Any, shown: Sequence[tuple[Any, str]], x: str, y: str) -> None:
    """Both axes of each panel from 0 to 1, and their names once."""
    for axes, _ in shown:
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    if len(shown) == 1:
        shown[0][0].set_xlabel(x)
        shown[0][0].set_ylabel(y)
    else:
        drawing.supxlabel(x, fontsize="medium")
        drawing.supylabel(y, fontsize="medium")


def legend(drawing: Any, axes: Any, columns: int = 2) -> None:
    """Under the drawing, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, [plain_text(label) for label in labels], loc="outside lower center", ncols=columns)


def plain_text(text: str) -> str:
    """Text from files that fits beside a drawing: one line, at most 44 characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return text if len(text) <= 44 else text[:43] + "…"
