"""What was measured on `val`, for people to read and for the bundle to keep. Not the verdict (`decide.py`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..spec.task import TaskKind
from ..verify.intervals import Interval
from ..verify.metrics import GATED
from .decide import Row


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The torch model first, then every way to run it.

    Attributes:
        n: images of the `val` split of `where`. patients: how many they are of, None where no patients are known.
    """

    n: int
    where: str
    patients: int | None
    kind: TaskKind
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def timed(self, milliseconds: Mapping[str, float]) -> Findings:
        """The same with the median time of one image, by name."""
        return replace(self, rows=tuple(replace(row, milliseconds=milliseconds.get(row.name)) for row in self.rows))

    def lines(self) -> list[str]:
        """Both tables, with what they are about before them and what they do not say by themselves after them."""
        lines = [f"on {self.n} images of the 'val' split of {self.where}; fp32 is the model itself:", *self.table()]
        if len(self.rows) > 1 and self.rows[1].drops:
            over = "the images" if self.patients is None else f"{self.patients} patients"
            lines += [f"what is lost, with 95 % intervals (paired bootstrap over {over}):", *self.losses()]
        if self.undefined():
            lines += [f"{', '.join(self.undefined())}: undefined on these images, so the gate cannot see it"]
        return lines

    def table(self) -> list[str]:
        """The rows' metrics as lines of text, one header first."""
        names = list(self.rows[0].metrics)
        head = ["", *(name.replace("_", " ") for name in names), "flipped", "ms"]
        body = [
            [row.name, *(_shown(row.metrics[name]) for name in names), self._flipped(row), _milliseconds(row.milliseconds)]
            for row in self.rows
        ]
        return _aligned([head, *body])

    def losses(self) -> list[str]:
        """What the gate looks at, per way to run the model: how far it falls, and the share of changed decisions."""
        names = [name for name in (*GATED[self.kind], "mean_cosine", "flips") if name in self.rows[1].drops]
        names = list(dict.fromkeys(names))
        head = ["", *(name.replace("_", " ") for name in names)]
        return _aligned([head, *([row.name, *(_lost(row.drops[name]) for name in names)] for row in self.rows[1:])])

    def undefined(self) -> list[str]:
        """Names of the metrics that the images do not define."""
        return [name.replace("_", " ") for name, value in self.rows[0].metrics.items() if math.isnan(value)]

    def _flipped(self, row: Row) -> str:
        return "" if row.flips is None else f"{round(row.flips * self.n)} of {self.n}"


def evidence(row: Row) -> dict[str, float]:
    """A row's losses for the manifest: `auc_drop`, `auc_drop_low`, `auc_drop_high`, …, `flips_low`, `flips_high`."""
    found: dict[str, float] = {}
    for name, interval in row.drops.items():
        key = name if name == "flips" else f"{name}_drop"
        values = {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}
        found |= {key: value for key, value in values.items() if not math.isnan(value)}
    return found


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(text.rjust(width) for text, width in zip(line, widths)) for line in lines]


def _lost(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "undefined"
    ends = "" if math.isnan(interval.low) else f" [{interval.low:.4f}, {interval.high:.4f}]"
    return f"{interval.value + 0.0:.4f}{ends}"


def _shown(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
