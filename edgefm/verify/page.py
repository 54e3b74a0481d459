"""The findings of `verify` as text: tables for a terminal of 100 columns or a page, and sentences.

Not the findings (`verdict.py`), and not the pages (`report/`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from .cells import Cell, measured, percent, plain, points, small
from .older_table import older_sentence, older_table
from .part_tables import part_tables, set_tables
from .robustness_table import robustness_tables
from .section import NAMES, Section

Record = Mapping[str, Any]

OPERATING = {"auprc": "AUPRC", "mcc": "MCC"}
LABEL_METRICS = ("auc", "sensitivity")  # those of each label that a terminal shows; Markdown has all


def sections(found: Record, *, everything: bool = False) -> Iterator[Section]:
    """The tables: metrics, differences, agreement with the reference, the gate, labels where there are several, and caps.

    Args:
        everything: all metrics of each label and all pairs of variants, for a page of any width.
    """
    variants = found["variants"]
    names = [name for name in NAMES if any(name in each["metrics"] for each in variants)]
    head = [NAMES[name] for name in names]
    if names:
        rows = [(each["name"], [measured(each["metrics"].get(name)) for name in names]) for each in variants]
        yield Section("Metrics, with their 95 % intervals", head, rows, "accuracy")
    others = [each for each in variants if not each["reference"]]
    if names and found["reference"] and others:
        rows = [(each["name"], [points(each["difference"].get(name)) for name in names]) for each in others]
        yield Section(f"Difference from {found['reference']}, in points of 0.01", head, rows, "accuracy")
    if found["reference"] and others:
        yield _agreement(found, others)
    if any(each["calibration"] for each in variants):
        yield _calibration(variants)
    if everything and any(each["operating"] for each in variants):
        yield _operating(variants)
    if everything and any(each["tests"] for each in variants):
        yield _tests(found)
    if found["gate"]:
        yield _gate(found["gate"])
    if found.get("robustness"):
        yield from robustness_tables(found["robustness"], everything=everything)
    yield from set_tables(found, everything=everything)
    if not everything:
        yield from part_tables(found)
    for label_metric in NAMES if everything else LABEL_METRICS:
        labels = [label for label, metrics in variants[0]["labels"].items() if label_metric in metrics]
        if labels:
            rows = [(label, [measured(each["labels"][label][label_metric]) for each in variants]) for label in labels]
            name = NAMES[label_metric]
            yield Section(f"{name[0].upper()}{name[1:]} of each label", [each["name"] for each in variants], rows, "accuracy")
    if everything and found["between"]:
        rows = [
            (f"{pair['one']} and {pair['other']}", [plain(pair["flips"]), small(pair["largest_difference"])])
            for pair in found["between"]
        ]
        yield Section("Between the variants", ["decisions changed", "largest difference"], rows, "parity")
    if found.get("older"):
        yield older_table(found["older"])


def introduction(found: Record) -> list[str]:
    """What was measured on what, as lines."""
    data, task, intervals = found["data"], found["task"], found["intervals"]
    split = "all images" if data["split"] == "all" else f"split {data['split']}"
    whom = f" of {count(data['groups'], 'patient')}" if data["by"] == "patient" else ""
    left_out = f", {data['left_out']} left out" if data["left_out"] else ""
    share, draws = round(100 * intervals["level"]), f"{intervals['draws']:,}"
    return [
        f"{found['bundle']['name']}, id {found['bundle']['id'][:12]}",
        *([f"REFUSED by the gate: {found['bundle']['refused']}"] if found["bundle"]["refused"] else []),
        f"{count(data['images'], 'image')}{whom}, {split} of {data['name']}{left_out}",
        f"{task['kind']}{_rule(task)}",
        f"reference: {found['reference'] or 'none'}; intervals: {share} %, {draws} draws of whole {data['by']}s",
    ]


def _rule(task: Record) -> str:
    """How the task decides, in words."""
    at = [f"{threshold:.4f}" for threshold in task["thresholds"]]
    if task["kind"] == "binary":
        return f": {task['labels'][1]} from a probability of {at[0]} on, else {task['labels'][0]}"
    if task["kind"] == "multilabel":
        if len(set(at)) == 1:
            return f": each of {', '.join(task['labels'])} from a probability of {at[0]} on"
        return ": " + ", ".join(f"{label} from {threshold} on" for label, threshold in zip(task["labels"], at))
    return ": the most probable of " + ", ".join(task["labels"]) if task["labels"] else ""


def conclusions(found: Record) -> list[str]:
    """Parity, what could not run, and what to know, as sentences."""
    parity, pairs = found["parity"], [pair for pair in found["between"] if pair["exact"]]
    lines = verdict_lines(found)
    if parity["passed"]:
        if parity["inputs"]:
            lines.append(f"Parity holds: every variant answers the {count(parity['inputs'], 'golden input')} as it should.")
        lines += _holding(pairs)
    else:
        lines += [f"PARITY IS BROKEN: {reason}." for reason in parity["reasons"]]
    if found.get("older"):
        lines.append(older_sentence(found))
    lines += [f"Without {name}: {reason}." for name, reason in found["left_out"].items()]
    return lines + [f"Note: {note}." for note in found["notes"]]


def _holding(pairs: list[Record]) -> list[str]:
    """Parity between all that run in fp32: a sentence, of the two that are the furthest apart."""
    if not pairs:
        return []
    worst, ways = (
        max(pairs, key=lambda pair: pair["largest_difference"]),
        {pair[key] for pair in pairs for key in ("one", "other")},
    )
    flips = [pair["flips"] for pair in pairs if pair["flips"] is not None]
    of = f"between {worst['one']} and {worst['other']}"
    if len(pairs) > 1:
        of = f"between the {len(ways)} ways to run it in fp32 ({worst['one']} and {worst['other']} are the furthest apart)"
    changed = f", {count(max(flips), 'decision')} changed" if flips else ""
    return [f"Parity holds {of}: {small(worst['largest_difference'])[0]} apart at most{changed}."]


def verdict_lines(found: Record) -> list[str]:
    """The gate's word and its reasons; nothing where it was not asked."""
    gate = found["gate"]
    if gate is None:
        return []
    claim = f"at {100 * gate['alpha']:g} % (one-sided): worse than {found['reference']} by less than the margins, if at all"
    unknown = [f"- {each}." for each in gate.get("not_judged", ())]
    if gate["passed"]:
        return [f"THE GATE SAYS PASS. Shown {claim}" + (", but for what follows:" if unknown else "."), *unknown]
    return [f"THE GATE SAYS REFUSED. Not shown {claim}:", *(f"- {reason}." for reason in gate["reasons"]), *unknown]


def _agreement(found: Record, others: list[Record]) -> Section:
    head = ["decisions changed", "share", "largest difference"]
    likeness = {"mean_cosine": "mean cosine", "cka": "CKA"}
    likeness = {what: name for what, name in likeness.items() if any(each.get(what) for each in others)}
    flips = any(each["flips"] for each in others)
    rows = []
    for each in others:
        changed = each["flips"]
        cells: list[Cell] = []
        if flips:
            cells += [plain(changed and f"{changed['count']} of {changed['of']}"), percent(changed and changed["share"])]
        cells.append(small(each["largest_difference"]))
        rows.append((each["name"], cells + [measured(each.get(what)) for what in likeness]))
    head = [*head[0 if flips else 2 :], *likeness.values()]
    return Section(f"Agreement with {found['reference']}", head, rows, "agreement")


def _gate(gate: Record) -> Section:
    """What each contender may lose at worst, beside the margin."""
    names = list(dict.fromkeys(check["name"] for check in gate["checks"]))
    cells = {(check["name"], check["what"]): _worst(check) for check in gate["checks"]}
    head = [NAMES.get(what, what.replace("_", " ")) for what in gate["margins"]]
    rows = [(name, [cells[name, what] for what in gate["margins"]]) for name in names]
    rows.append(("margin", [plain(loss_in_words(what, margin)) for what, margin in gate["margins"].items()]))
    return Section("What may be lost at worst, in points of 0.01 but for the slope, and the gate's margins", head, rows, "gate")


def _worst(check: Record) -> Cell:
    if check["passed"] is None:
        return "not judged", ""
    return loss_in_words(check["what"], check["worst"]) + ("" if check["passed"] or math.isnan(check["worst"]) else " NO"), ""


def loss_in_words(what: str, loss: float) -> str:
    """A loss that the gate judges, in its own unit: points of 0.01; of the calibration slope, whose loss is a difference of
    logarithms, how many times further from what is right probabilities are."""
    if math.isnan(loss):
        return "undefined"
    return f"{math.exp(loss):.2f} times" if what == "calibration_slope" else f"{100 * loss:.2f}"


def _calibration(variants: list[Record]) -> Section:
    """How far probabilities are from what came true; 0 is best, but for resolution, and for the slope 1."""
    head = ["slope", "ECE", "adaptive ECE", "reliability", "resolution", "uncertainty"]  # the last three are Brier's
    rows = []
    for each in variants:
        found = each["calibration"]
        parts = found["brier"]
        values = (
            found["ece"],
            found["ece_adaptive"],
            parts["reliability"],
            parts["generalized_resolution"],
            parts["uncertainty"],
        )
        rows.append((each["name"], [measured(each["calibration_slope"]), *(plain(f"{value:.3f}") for value in values)]))
    return Section("Calibration: what a probability is worth", head, rows, "calibration")


def _operating(variants: list[Record]) -> Section:
    names = list(variants[0]["operating"])
    head = [OPERATING.get(name, name.replace("_", " ")) for name in names]
    rows = [(each["name"], [measured(each["operating"].get(name)) for name in names]) for each in variants]
    return Section("Beside the stored threshold", head, rows, "accuracy")


def _tests(found: Record) -> Section:
    """McNemar's and DeLong's, for readers who expect them."""
    tested = [each for each in found["variants"] if each["tests"]]
    delong = any("delong" in each["tests"] for each in tested)
    rows = []
    for each in tested:
        mcnemar = each["tests"]["mcnemar"]
        cells = [plain(mcnemar["only_one"]), plain(mcnemar["only_other"]), p_value(mcnemar["mid_p"])]
        rows.append((each["name"], cells + ([p_value(each["tests"]["delong"]["p"])] if delong else [])))
    head = ["right alone", "reference right alone", "McNemar, mid-p", *(["DeLong, p"] if delong else [])]
    return Section(f"Tests against {found['reference']}, each image counted for itself", head, rows, "agreement")


def p_value(value: float) -> Cell:
    return plain("-" if math.isnan(value) else "below 0.001" if value < 0.001 else f"{value:.3f}")


def count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
