"""What the figures of accuracy show. A function gives none where the record has nothing to draw.

Not the SVG (`figures.py`). Each figure has its words and its numbers beside it: nobody needs to see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..verify.cells import Cell, measured, plain
from ..verify.curves import SPECIFICITIES
from ..verify.page import loss_in_words
from ..verify.section import NAMES, Section
from .axes import known, legend, line, panels, plain_text, size, square
from .figures import FAINT, INK, MARKERS, SERIES, Figure, draw

Record = Mapping[str, Any]
PANELS = 12  # of one figure
MAIN = ("balanced_accuracy", "auc", "knn_accuracy")


def shown(found: Record) -> list[Record]:
    """The variants that figures draw: the reference and the first of each precision; all where engines disagree."""
    if not found["parity"]["passed"]:
        return list(found["variants"])[: len(SERIES)]
    first: dict[Any, Record] = {}
    for each in found["variants"]:
        first.setdefault("reference" if each["reference"] else each["precision"], each)
    return list(first.values())


def main_metric(found: Record) -> str | None:
    """The one metric that a figure of one metric shows."""
    for name in MAIN:
        if any(name in each["metrics"] and known(each["metrics"][name]["value"]) for each in found["variants"]):
            return name
    return None


def in_full(metric: str) -> str:
    """The name of a metric at the beginning of a line."""
    name = NAMES[metric] if "." not in NAMES[metric] else metric.replace("_", " ")
    return name[0].upper() + name[1:]


def margins(found: Record) -> list[Figure]:
    """The gate's checks that were made: the loss and the worst that is possible, as shares of the margin (units differ)."""
    every = found["gate"]["checks"] if found["gate"] else []
    drawn = {each["name"] for each in shown(found)}
    told = {each["what"] for each in every if each["name"] in drawn and each["passed"] is False}
    checks = [  # of the others only what none of these tells
        each
        for each in every
        if known(each["worst"]) and (each["name"] in drawn or (each["passed"] is False and each["what"] not in told))
    ]
    if not checks:
        return []
    named = [(f"{each['name']}: {NAMES.get(each['what'], each['what'].replace('_', ' '))}", each) for each in every]
    labels = [label for label, each in named if each in checks]

    def paint(drawing: Any) -> None:
        axes = drawing.subplots()
        for row, each in enumerate(checks):
            loss, worst = (each[name] / each["margin"] for name in ("loss", "worst"))
            colour = SERIES[2 if each["passed"] else 1]
            axes.plot([loss, worst], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([loss], [row], marker="o", color=colour, markersize=5)
        axes.axvline(1, color=INK, linewidth=2)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(checks)), [plain_text(label) for label in labels])
        axes.set_ylim(len(checks) - 0.4, -0.6)
        drawing.supxlabel("loss against the reference, as a share of the margin", fontsize="medium")

    rows = [
        (
            label,
            [plain(loss_in_words(each["what"], each[name])) for name in ("loss", "worst", "margin")]
            + [plain("yes" if each["passed"] else "NO")],
        )
        for label, each in named
    ]
    failed = [label for label, each in named if not each["passed"]]
    return [
        Figure(
            "margins",
            "What may be lost. Dot: the loss as measured; line: to the worst that the images leave possible; bar: margin.",
            f"{len(every)} checks, each a loss with its worst case beside its margin. "
            + (f"Not within the margin: {', '.join(failed)}." if failed else "All worst cases are within their margins."),
            draw("margins", paint, 0.7 + 0.24 * len(checks)),
            Section(
                "The gate's checks: what is lost, in points of 0.01 but for the slope",
                ["loss", "at worst", "margin", "within"],
                rows,
            ),
        )
    ]


def roc(found: Record) -> list[Figure]:
    """The curves of the reference and a variant of each precision, a panel per label."""
    variants = [each for each in shown(found) if any(curve["sensitivity"] for curve in (each.get("roc") or {}).values())]
    if not variants:
        return []
    labels = [name for name in variants[0]["roc"] if variants[0]["roc"][name]["sensitivity"]][:PANELS]

    def paint(drawing: Any) -> None:
        grid = panels(drawing, labels)
        for axes, label in grid:
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
            for number, each in enumerate(variants):
                curve = each["roc"][label]
                axes.plot(curve["false_positive_rate"], curve["sensitivity"], **line(number), label=each["name"])
        square(drawing, grid, "1 - specificity", "sensitivity")
        legend(drawing, grid[0][0])

    rows: list[tuple[str, list[Cell]]] = []
    for label in labels:
        for each in variants:
            at = each["roc"][label].get("sensitivity_at") or [None] * len(SPECIFICITIES)
            rows.append((each["name"], [plain(label), *(plain(f"{value:.3f}" if known(value) else None) for value in at)]))
    head = ["label", *(f"at {specificity:g}" for specificity in SPECIFICITIES)]
    auc = ", ".join(f"{each['name']} {measured(each['metrics'].get('auc'))[0]}" for each in variants)
    return [
        Figure(
            "roc",
            "ROC curves, each label against the rest." if len(labels) > 1 else f"ROC curves for {labels[0]}.",
            f"ROC curves of {len(variants)} models. Areas under them: {auc}.",
            draw("roc", paint, *size(len(labels))),
            Section("The best sensitivity that keeps a specificity", head, rows),
        )
    ]


def reliability(found: Record) -> list[Figure]:
    """What came true of what was said, a panel per column of the forecasts."""
    variants = [each for each in shown(found) if each["calibration"]]
    if not variants:
        return []
    columns = len(variants[0]["calibration"]["reliability"]["images"])
    names = _forecasts(found["task"])[: min(columns, PANELS)]

    def bins(each: Record, column: int) -> Iterator[tuple[float, float, float, float, int]]:
        points = each["calibration"]["reliability"]
        for row in zip(*(points[name][column] for name in ("confidence", "right", "low", "high", "images"))):
            if row[-1]:
                yield row

    def paint(drawing: Any) -> None:
        grid = panels(drawing, names)
        for column, (axes, _) in enumerate(grid):
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
            for number, each in enumerate(variants):
                said, came, low, high, _ = np.array(list(bins(each, column))).T
                style = line(number)
                axes.vlines(said, low, high, color=style["color"], linewidth=0.8, alpha=0.6)
                axes.plot(said, came, marker=MARKERS[number % len(MARKERS)], markersize=4, **style, label=each["name"])
        square(drawing, grid, "probability", "share that came true")
        legend(drawing, grid[0][0])

    rows = [
        (each["name"], [*([plain(name)] if columns > 1 else []), plain(f"{said:.3f}"), (f"{came:.3f}", f"{low:.3f}-{high:.3f}"),
                        plain(count)])
        for column, name in enumerate(names)
        for each in variants
        for said, came, low, high, count in bins(each, column)
    ]  # fmt: skip
    head = [*(["label"] if columns > 1 else []), "mean probability", "came true", "images"]
    errors = ", ".join(f"{each['name']} {each['calibration']['ece']:.3f}" for each in variants)
    return [
        Figure(
            "reliability",
            f"Reliability diagram of {_subject(found['task'])}, with 95 % intervals. On the diagonal a probability "
            "means what it says.",
            f"Reliability diagram of {len(variants)} models. Expected calibration errors: {errors}.",
            draw("reliability", paint, *size(len(names))),
            Section("The bins of the diagram", head, rows),
        )
    ]


def _forecasts(task: Record) -> list[str]:
    return list(task["labels"]) if task["kind"] == "multilabel" else [_subject(task)]


def _subject(task: Record) -> str:
    """Whose probability `calibration.forecasts` is about."""
    if task["kind"] == "binary":
        return str(task["labels"][1])
    return "the answer" if task["kind"] == "multiclass" else "each label"
