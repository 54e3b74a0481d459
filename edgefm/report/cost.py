"""The figures of what a variant costs: accuracy against size and time, and the times themselves.

Not the SVG (`figures.py`), and no time that `bench` did not measure of this very bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..bench.noise import quoted
from ..verify.cells import Cell, measured, plain
from ..verify.section import NAMES, Section
from .axes import ends, legend, plain_text
from .figures import DASHES, INK, MARKERS, PAPER, SERIES, Figure, draw
from .plots import in_full, main_metric

Record = Mapping[str, Any]


def pareto(found: Record) -> list[Figure]:
    """Accuracy against the size of the files and, where it was timed, against the model's median time."""
    metric = main_metric(found)
    sizes = {name: size / 1e6 for name, size in found["bundle"].get("bytes", {}).items()}
    points = [each for each in found["variants"] if metric in each["metrics"] and each["name"] in sizes]
    if metric is None or not points:
        return []
    times = _times(found)
    axis = [("files, MB", sizes)] + ([("model alone, ms (median)", times)] if times else [])
    outside = [each for each in found["variants"] if each["name"] not in sizes and metric in each["metrics"]]
    best = {title: _front(points, metric, cost) for title, cost in axis}

    def paint(drawing: Any) -> None:
        panels = drawing.subplots(1, len(axis), sharey=True, squeeze=False)[0]
        for axes, (title, cost) in zip(panels, axis):
            for each in outside:
                low, value, high = ends(each["metrics"][metric])
                axes.axhspan(low, high, color=INK, alpha=0.08, linewidth=0)
                axes.axhline(value, color=INK, linewidth=1, linestyle=DASHES[1], label=f"{each['name']}, whatever it costs")
            for number, each in enumerate(points):
                if each["name"] not in cost:
                    continue
                low, value, high = ends(each["metrics"][metric])
                x = cost[each["name"]]
                lower, middle, upper = x if isinstance(x, tuple) else (x, x, x)
                colour = SERIES[number % len(SERIES)]
                axes.plot([middle, middle], [low, high], color=colour, linewidth=1)
                axes.plot([lower, upper], [value, value], color=colour, linewidth=1)
                axes.plot(
                    [middle],
                    [value],
                    marker=MARKERS[number % len(MARKERS)],
                    color=colour,
                    markersize=6,
                    markerfacecolor=colour if each["name"] in best[title] else PAPER,
                    label=each["name"],
                    linestyle="none",
                )
            axes.set_xlabel(title)
            axes.margins(x=0.15)
            axes.set_xlim(left=0)
        panels[0].set_ylabel(in_full(metric))
        legend(drawing, panels[0])

    rows: list[tuple[str, list[Cell]]] = []
    for each in [*outside, *points]:
        time = times.get(each["name"])
        cells = [measured(each["metrics"][metric]), plain(f"{sizes[each['name']]:.2f}" if each["name"] in sizes else None)]
        if times:
            cells.append(plain(None) if time is None else (f"{time[1]:.2f}", f"{time[0]:.2f}-{time[2]:.2f}"))
        rows.append((each["name"], cells))
    told = "; ".join(f"by {title.partition(',')[0]}: {', '.join(best[title])}" for title, _ in axis)
    return [
        Figure(
            "pareto",
            f"{in_full(metric)} against what a variant costs, with 95 % intervals. Filled: no other "
            "variant is at least as good and cheaper.",
            f"{in_full(metric)} of {len(points)} variants with intervals against their cost. Not beaten {told}.",
            draw("pareto", paint, 3.2),
            Section(f"{in_full(metric)} and cost", [NAMES[metric], *(title for title, _ in axis)], rows),
        )
    ]


def latency(found: Record) -> list[Figure]:
    """The times of each contender: the median with its interval, and up to the largest percentile that was measured."""
    ran = [each for each in (found.get("bench") or {}).get("contenders", []) if "error" not in each]
    if not ran:
        return []
    kinds = (("answer", "file to answer"), ("model", "model alone"))

    def paint(drawing: Any) -> None:
        axes = drawing.subplots()
        for number, (kind, title) in enumerate(kinds):
            for row, each in enumerate(ran):
                time, y = each[kind], row + 0.24 * (number - 0.5)
                colour, last = SERIES[number], time["p99"] or time["p95"]
                axes.plot([time["p50"], last], [y, y], color=colour, linewidth=1.2, linestyle=DASHES[2])
                if quoted(time):
                    axes.plot(quoted(time), [y, y], color=colour, linewidth=6, alpha=0.45, solid_capstyle="butt")
                label = title if not row else None
                axes.plot([time["p50"]], [y], marker=MARKERS[number], color=colour, markersize=5, label=label, linestyle="none")
                for name, mark in (("p95", "|"), ("p99", "4")):
                    if time[name]:
                        axes.plot([time[name]], [y], marker=mark, color=colour, markersize=8, markeredgewidth=1.6)
        axes.set_yticks(range(len(ran)), [plain_text(each["name"]) for each in ran])
        axes.set_ylim(len(ran) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("milliseconds")
        legend(drawing, axes)

    rows = []
    for each in ran:
        for kind, title in kinds:
            time = each[kind]
            ends_at = quoted(time)
            interval = "" if ends_at is None else f"{ends_at[0]:.2f}-{ends_at[1]:.2f}"
            rest = [plain(None if time[name] is None else f"{time[name]:.2f}") for name in ("p95", "p99")]
            rows.append((each["name"], [plain(title), (f"{time['p50']:.2f}", interval), *rest, plain(time["n"])]))
    medians = ", ".join(f"{each['name']} {each['answer']['p50']:.2f}" for each in ran)
    return [
        Figure(
            "latency",
            "Times of loaded models. Dot: median, in its 95 % interval with the machine's noise; dotted: to the 95th "
            "percentile, a bar, or to the 99th, a cross.",
            f"Times of {len(ran)} contenders. Medians from file to answer, in milliseconds: {medians}.",
            draw("latency", paint, 1.1 + 0.42 * len(ran)),
            Section("Times, ms", ["what", "median", "p95", "p99", "runs"], rows),
        )
    ]


def _times(found: Record) -> dict[str, tuple[float, float, float]]:
    """Low, median and high milliseconds of the model alone, by the variants of this very bundle: its id tells."""
    bench, times = found.get("bench") or {}, {}
    for each in bench.get("contenders", []):
        if "error" not in each and each.get("bundle_id") == found["bundle"]["id"]:
            time = each["model"]
            low, high = quoted(time) or (time["p50"], time["p50"])
            times[each["variant"]] = (low, time["p50"], high)
    return times


def _front(points: Sequence[Record], metric: str, costs: Mapping[str, Any]) -> list[str]:
    """The names of those that no other beats: at least as good and as cheap, and better in one of the two."""
    at = {}
    for each in points:
        if each["name"] in costs:
            cost = costs[each["name"]]
            at[each["name"]] = each["metrics"][metric]["value"], -(cost[1] if isinstance(cost, tuple) else cost)
    return [
        name
        for name, (good, cheap) in at.items()
        if not any(g >= good and c >= cheap and (g, c) != (good, cheap) for g, c in at.values())
    ]
