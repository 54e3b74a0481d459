"""The tables of what was measured beside the metrics: subgroups, robustness, changed cases, and the ancestors.

Not the tables of metrics (`verify/page.py`, whose `Section` these are), and not the measuring. The keys of the record:

- `subgroups`: for each column `column`, `groups` (`value`, `images`, `groups`, `judged`, `metrics`, `difference`, `flips`),
  `worst`, `gap`, `gap_change` and `chi_squared`, each by variant;
- `robustness`: `corruptions` (`name`, `severity`, `variants`: `balanced_error` and `flips`), `clean`, `images`, `seed`;
- `cases`: `image`, `patient`, `label` (in words, "" for none of several, None where unknown), `variant`, `before`, `after`,
  `reference`, `probability`, `drift`.

Each of them may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..verify.cells import Cell, measured, plain, points
from ..verify.page import count, p_value
from ..verify.part_tables import EVERY
from ..verify.section import Section
from .axes import known

Record = Mapping[str, Any]


def subgroups(found: Record) -> list[Section]:
    """For each column: the metrics of every group and variant, and what the groups come to."""
    return [section for each in found.get("subgroups") or [] for section in _column(each)]


def _column(each: Record) -> Iterator[Section]:
    variants = list(dict.fromkeys(name for group in each["groups"] for name in group["metrics"]))
    metrics = [name for name in EVERY if any(name in group["metrics"].get(v, {}) for group in each["groups"] for v in variants)]
    rows: list[tuple[str, list[Cell]]] = []
    for group in each["groups"]:
        for variant in variants:
            own, flips = group["metrics"].get(variant, {}), (group.get("flips") or {}).get(variant)
            cells = [plain(variant), plain(group["images"]), plain(group["groups"])]
            cells += [measured(own.get(name)) for name in metrics]
            cells.append(plain(flips and f"{flips['count']} of {flips['of']}"))
            rows.append((_group(group), cells))
    head = ["variant", "images", "patients", *(EVERY[name] for name in metrics), "decisions changed"]
    yield Section(f"By {each['column']}", head, rows)
    rows = []
    for variant in variants:
        for name in metrics:
            worst, gap, change = ((each.get(key) or {}).get(variant, {}).get(name) for key in ("worst", "gap", "gap_change"))
            if worst is not None:
                rows.append((variant, [plain(EVERY[name]), plain(worst), points(gap), points(change)]))
    if rows:
        head = ["metric", "worst group", "gap to all", "change of the gap"]
        yield Section(f"By {each['column']}: worst group, in points of 0.01", head, rows)
    rows = [
        (
            variant,
            [plain(f"{test['statistic']:.2f}" if known(test["statistic"]) else None), plain(test["df"]), p_value(test["p"])],
        )
        for variant, test in (each.get("chi_squared") or {}).items()
    ]
    if rows:
        yield Section(f"By {each['column']}: do decisions change more often in some groups?", ["chi-squared", "df", "p"], rows)


def _group(group: Record) -> str:
    return str(group["value"]) + ("" if group["judged"] else " (too small to judge)")


def robustness(found: Record) -> list[Section]:
    """For each corruption and severity the balanced error of every variant, in percent, and the decisions it changed."""
    every = found.get("robustness")
    if not every:
        return []
    variants = list(every["clean"])
    rows = [("none", [plain("-"), *(_error(every["clean"][name]) for name in variants)])]
    for each in every["corruptions"]:
        cells = [_error(each["variants"].get(name)) for name in variants]
        rows.append((each["name"].replace("_", " "), [plain(each["severity"]), *cells]))
    return [Section("Balanced error in %, and changed decisions", ["severity", *variants], rows)]


def _error(each: Record | None) -> Cell:
    if each is None or not known(each["balanced_error"]):
        return plain(None)
    return f"{100 * each['balanced_error']:.1f}", "" if "flips" not in each else count(each["flips"], "flip")


def cases(found: Record, most: int) -> list[Section]:
    """The changed cases in the order of the record, at most `most`."""
    every = (found.get("cases") or [])[:most]
    if not every:
        return []
    rows = [
        (
            str(each["image"]),
            [
                plain(each.get("patient")),
                plain(_decision(each["label"])),
                plain(each["variant"]),
                plain(_decision(each.get("before"))),
                plain(_probabilities(each["reference"])),
                plain(_decision(each.get("after"))),
                plain(_probabilities(each["probability"])),
                plain(f"{each['drift']:.3f}"),
            ],
        )
        for each in every
    ]
    labels = ", ".join(found["task"]["labels"])
    head = ["patient", "label", "variant", "before", "its probability", "after", "its probability", "drift"]
    return [
        Section(f"Changed decisions, from the reference's to the variant's, with the probabilities of {labels}", head, rows)
    ]


def _decision(decided: str | None) -> str | None:
    """What was decided; of several labels perhaps none."""
    return "none" if decided == "" else decided


def _probabilities(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def lineage(found: Record) -> list[Section]:
    """The ancestors, nearest first, and the size of each variant."""
    bundle, shown = found["bundle"], []
    if bundle.get("lineage"):
        rows = [
            (each["name"], [plain(each["role"]), plain(each["licence"]), plain((each["sha256"] or "unknown")[:16])])
            for each in bundle["lineage"]
        ]
        shown.append(Section("Ancestors", ["role", "licence", "SHA-256 begins"], rows))
    if bundle.get("bytes"):
        rows = [(name, [plain(f"{size / 1e6:.2f}")]) for name, size in bundle["bytes"].items()]
        shown.append(Section("Variants in the bundle", ["files, MB"], rows))
    return shown
