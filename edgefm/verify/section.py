"""A table of findings, and what its columns are called. Not the tables: `page.py` and its neighbours, and `report/`."""

from __future__ import annotations

from typing import NamedTuple

from .cells import Cell

NAMES = {
    "auc": "AUC",
    "balanced_accuracy": "bal. acc.",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "brier": "Brier",
    "knn_accuracy": "kNN accuracy",
    "probe_accuracy": "probe accuracy",
}


class Section(NamedTuple):
    """A table with its title. `rows`: a name, and a cell per column of `head`. `topic`: the chapter of a page it belongs to."""

    title: str
    head: list[str]
    rows: list[tuple[str, list[Cell]]]
    topic: str = ""

    def lines(self) -> list[list[str]]:
        """The rows for a terminal: the intervals on a line of their own under their values."""
        found = []
        for name, cells in self.rows:
            found.append([name, *(value for value, _ in cells)])
            if any(interval for _, interval in cells):
                found.append(["", *(interval for _, interval in cells)])
        return found
