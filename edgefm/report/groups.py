"""The figures of many rows: a forest plot of subgroups, a heat map of corruptions.

Not the SVG (`figures.py`), not their tables of all metrics (`tables.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..verify.cells import Cell, measured, plain
from ..verify.section import Section
from .axes import COLUMNS, ends, known, legend, plain_text
from .figures import FAINT, HEAT, INK, MARKERS, PAPER, SERIES, WIDTH, Figure, draw
from .plots import in_full, main_metric, shown

Record = Mapping[str, Any]
GROUPS = 30  # of one figure; the tables have all


def forest(found: Record) -> list[Figure]:
    """One figure per column: the main metric of every group with its interval, beside that of all images."""
    metric = main_metric(found)
    if metric is None:
        return []
    every = enumerate(found.get("subgroups") or [], 1)
    return [figure for number, column in every for figure in _forest(found, column, metric, f"forest-{number}")]


def _forest(found: Record, column: Record, metric: str, name: str) -> list[Figure]:
    variants = shown(found)
    groups = [
        group
        for group in column["groups"]
        if any(known(group["metrics"].get(each["name"], {}).get(metric, {}).get("value")) for each in variants)
    ][:GROUPS]
    if not groups:
        return []
    labels = [f"{group['value']} ({group['images']})" for group in groups]

    def paint(drawing: Any) -> None:
        axes = drawing.subplots()
        for number, each in enumerate(variants):
            colour, offset = SERIES[number], 0.6 * ((number + 0.5) / len(variants) - 0.5)
            whole = each["metrics"].get(metric)
            if whole is not None and known(whole["value"]):
                axes.axvline(whole["value"], color=colour, linewidth=0.8, alpha=0.6)
            for row, group in enumerate(groups):
                interval = group["metrics"].get(each["name"], {}).get(metric)
                if interval is None or not known(interval["value"]):
                    continue
                low, value, high = ends(interval)
                axes.plot([low, high], [row + offset] * 2, color=colour, linewidth=1.4)
                axes.plot(
                    [value], [row + offset], marker=MARKERS[number], color=colour, markersize=5, linestyle="none",
                    markerfacecolor=colour if group["judged"] else PAPER,
                )  # fmt: skip
            axes.plot([], [], marker=MARKERS[number], color=colour, label=each["name"])
        axes.set_yticks(range(len(groups)), [plain_text(label) for label in labels])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlabel(f"{in_full(metric)}, 95 % interval; lines: all images")
        legend(drawing, axes)

    rows: list[tuple[str, list[Cell]]] = [
        (
            str(group["value"]),
            [plain(group["images"]), *(measured(group["metrics"].get(v["name"], {}).get(metric)) for v in variants)],
        )
        for group in groups
    ]
    rest = "" if len(groups) == len(column["groups"]) else f" {len(groups)} of {len(column['groups'])} groups."
    worst = {each["name"]: ((column.get("worst") or {}).get(each["name"]) or {}).get(metric) for each in variants}
    told = ", ".join(f"{group} for {variant}" for variant, group in worst.items() if group is not None)
    return [
        Figure(
            name,
            f"{in_full(metric)} by {column['column']}, number of images in brackets. Hollow: too small to judge.{rest}",
            f"{in_full(metric)} of {len(groups)} groups of {column['column']} with intervals, for {len(variants)} models. "
            + (f"Lowest: {told}." if told else ""),
            draw(name, paint, 1.1 + (0.16 + 0.13 * len(variants)) * len(groups)),
            Section(f"{in_full(metric)} by {column['column']}", ["images", *(each["name"] for each in variants)], rows),
        )
    ]


def heat_map(found: Record) -> list[Figure]:
    """Corruptions by severity, a panel per variant: by how much the balanced error rises over that of clean images."""
    every = found.get("robustness")
    if not every or not every["corruptions"]:
        return []
    variants = [each["name"] for each in shown(found) if each["name"] in every["clean"]] or list(every["clean"])
    names = list(dict.fromkeys(each["name"] for each in every["corruptions"]))
    levels = sorted({each["severity"] for each in every["corruptions"]})
    rise = {
        (variant, each["name"], each["severity"]): 100
        * (each["variants"][variant]["balanced_error"] - every["clean"][variant]["balanced_error"])
        for each in every["corruptions"]
        for variant in variants
        if known(each["variants"].get(variant, {}).get("balanced_error")) and known(every["clean"][variant]["balanced_error"])
    }
    if not rise:
        return []
    largest = max(*map(abs, rise.values()), 1)

    def paint(drawing: Any) -> None:
        columns = min(COLUMNS, len(variants))
        grid = list(drawing.subplots(-(-len(variants) // columns), columns, squeeze=False, sharey=True).flat)
        for axes in grid[len(variants) :]:
            axes.remove()
        for axes, variant in zip(grid, variants):
            axes.grid(False)
            for row, name in enumerate(names):
                for column, level in enumerate(levels):
                    value = rise.get((variant, name, level))
                    if value is None:
                        continue
                    depth = 0.85 * max(value, 0) / largest
                    axes.bar([column], [0.94], 0.94, row - 0.47, color=HEAT, alpha=depth, linewidth=0)
                    text = f"{value:.0f}".replace("-0", "0")
                    axes.text(column, row, text, color=INK, ha="center", va="center", fontsize="small")
            axes.set_title(plain_text(variant))
            axes.set_xlim(-0.5, len(levels) - 0.5)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_xticks(range(len(levels)), levels)
            axes.set_yticks(range(len(names)), [plain_text(name.replace("_", " ")) for name in names])
            axes.tick_params(length=0)
            axes.set_xlabel("severity")
            for spine in axes.spines.values():
                spine.set_color(FAINT)

    rows: list[tuple[str, list[Cell]]] = [
        (name.replace("_", " "), [plain(level), *(_points(rise.get((variant, name, level))) for variant in variants)])
        for name in names
        for level in levels
    ]
    (variant, name, level), worst = max(rise.items(), key=lambda each: each[1])
    height = (0.7 + 0.21 * len(names)) * -(-len(variants) // COLUMNS)
    return [
        Figure(
            "robustness",
            "How many points of 0.01 the balanced error rises over that of clean images.",
            f"Heat map of {len(names)} corruptions by {len(levels)} severities for {len(variants)} models. The largest rise is "
            f"{worst:.1f} points, by {name.replace('_', ' ')} at severity {level} for {variant}.",
            draw("robustness", paint, height, WIDTH if len(variants) > 1 else 0.7 * WIDTH),
            Section("Rise of the balanced error, in points of 0.01", ["severity", *variants], rows),
        )
    ]


def _points(value: float | None) -> Cell:
    return plain(None if value is None else f"{value:+.1f}")
