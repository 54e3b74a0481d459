"""What a report says: the verdict in a sentence, then chapters of sentences, figures and tables. Plain values.

Not how it looks (`page.py`, `markdown.py`), not the drawing (`plots.py`), and no new numbers: all of them are in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..bench.page import circumstances
from ..bench.page import sentences as bench_sentences
from ..bench.page import tables as bench_tables
from ..verify.cells import plain
from ..verify.page import conclusions, count, introduction, sections, verdict_lines
from ..verify.section import Section
from . import cost, groups, plots, tables
from .again import commands, named
from .figures import Figure

Record = Mapping[str, Any]
CASES = 500  # rows of the page; the record has all


class Chapter(NamedTuple):
    """A part of the page.

    Attributes:
        topic: its name in a link. title: for people. text: sentences.
        figures, tables: what it shows. commands: lines for a terminal, "" for none.
    """

    topic: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Section] = ()
    commands: str = ""


class Page(NamedTuple):
    """All of it.

    Attributes:
        title: of the page. word: "pass", "refused", "broken" or "no verdict". sentence: the verdict. reasons: why.
        facts: what was measured on what, a line each. chapters: those that have something to say.
    """

    title: str
    word: str
    sentence: str
    reasons: list[str]
    facts: list[str]
    chapters: list[Chapter]


def page(found: Record) -> Page:
    """What to say of a record.

    Args:
        found: as `verify.verdict.verdict` returns it, with these where they were measured: `subgroups`, `robustness`, `cases`
            (see `tables.py`), and `bench`, as `bench.bench.bench` returns it.
    """
    word, sentence, reasons = verdict(found)
    chapters = [each for each in _chapters(found) if each.text or each.figures or each.tables or each.commands]
    return Page(
        title=f"Verification of {found['bundle']['name']}",
        word=word,
        sentence=sentence,
        reasons=reasons,
        facts=introduction(found),
        chapters=chapters,
    )


def verdict(found: Record) -> tuple[str, str, list[str]]:
    """The word and the sentence that stand on top, and the reasons for that word and no other; the worst comes first."""
    name, data, reference = found["bundle"]["name"], found["data"], found["reference"]
    images = count(data["images"], "image") + (f" of {count(data['groups'], 'patient')}" if data["by"] == "patient" else "")
    if not found["parity"]["passed"]:
        sentence = f"{name} must not be used on this machine: its engines disagree, or contradict what it should answer."
        return "broken", sentence, [f"{reason}." for reason in found["parity"]["reasons"]]
    if found["bundle"]["refused"]:
        return "refused", f"{name} was refused when it was built, and must not be used: {found['bundle']['refused']}.", []
    gate = found["gate"]
    if gate is None:
        return "no verdict", f"Whether {name} may be used was not asked: it was measured on {images}, without a gate.", []
    number = sum(each["passed"] is not None for each in gate["checks"])
    unknown = len(gate["checks"]) - number
    but = f" {count(unknown, 'check')} could not be made: too few errors." if unknown else ""
    checks = f"all {number} checks stay" if number > 1 else "the one check stays"
    not_judged = _together(gate.get("not_judged", ()), found["variants"])
    if gate["passed"]:
        return "pass", f"{name} may take the place of {reference}: on {images}, {checks} within the margin.{but}", not_judged
    failed = sum(each["passed"] is False for each in gate["checks"])
    sentence = (
        f"{name} may not take the place of {reference}: on {images}, {failed} of {count(number, 'check')} "
        f"could not be shown to stay within the margin.{but}"
    )
    return "refused", sentence, _together(gate["reasons"], found["variants"]) + not_judged


def _together(reasons: Sequence[str], variants: Sequence[Record]) -> list[str]:
    """What fails alike in several variants, said once with their names."""
    names = sorted((each["name"] for each in variants), key=len, reverse=True)
    whose: dict[str, list[str]] = {}
    for reason in reasons:
        name = next((each for each in names if reason.startswith(f"{each}: ")), "")
        whose.setdefault(reason.removeprefix(f"{name}: "), []).append(name)
    return [f"{', '.join(them)}: {what}." if any(them) else f"{what}." for what, them in whose.items()]


def _chapters(found: Record) -> Iterator[Chapter]:
    by_topic: dict[str, list[Section]] = {}
    for section in sections(found, everything=True):
        by_topic.setdefault(section.topic, []).append(section)

    def take(topic: str) -> list[Section]:
        return by_topic.pop(topic, [])

    variants = len(plots.shown(found)) < len(found["variants"])
    few = (
        ["Curves and groups are drawn for the reference and one variant of each precision; the tables have all."]
        if variants
        else []
    )
    checks, margins = take("gate"), plots.margins(found)
    yield Chapter("gate", "The gate", _gate(found), margins, [] if margins else checks)
    yield Chapter("accuracy", "Accuracy and cost", [], cost.pareto(found), take("accuracy"))
    curves = plots.roc(found)
    yield Chapter("roc", "ROC curves", few if curves else [], curves, [])
    yield Chapter("calibration", "Calibration", [], plots.reliability(found), take("calibration"))
    yield Chapter("agreement", "Agreement with the reference", [], [], take("agreement"))
    yield Chapter("sets", "Conformal sets", [], [], take("sets"))
    yield Chapter("subgroups", "Subgroups", _subgroups(found), groups.forest(found), tables.subgroups(found))
    yield Chapter(
        "robustness", "Robustness", _robustness(found), groups.heat_map(found), take("robustness") + tables.robustness(found)
    )
    yield Chapter("cases", "Changed cases", _cases(found), [], tables.cases(found, CASES))
    yield latency(found.get("bench"))
    yield Chapter("parity", "Parity and notes", _remarks(found), [], take("parity"))
    yield Chapter("more", "More tables", [], [], [each for rest in by_topic.values() for each in rest])
    yield Chapter("lineage", "Where it comes from", _licences(found), [], tables.lineage(found))
    yield Chapter("machine", "What measured it", _machine(found))
    yield Chapter("again", "Measure it again", named(found), commands=commands(found))


def _gate(found: Record) -> list[str]:
    """How it judges; and what it said, where something worse stands on top."""
    if not found["gate"]:
        return []
    rule = "The worst loss that the images leave possible has to be smaller than the margin."
    if found["parity"]["passed"] and not found["bundle"]["refused"]:
        return [rule]
    return [rule, *(line.removeprefix("- ") for line in verdict_lines(found))]


def _subgroups(found: Record) -> list[str]:
    small = sum(not group["judged"] for each in found.get("subgroups") or [] for group in each["groups"])
    return [f"Groups too small to judge: {small}. They are hollow in the figure, and marked in the tables."] if small else []


def _robustness(found: Record) -> list[str]:
    measured = found.get("robustness")
    if not measured:
        return []
    return [
        f"Balanced error is 1 - balanced accuracy, on {count(measured['images'], 'image')} with each corruption added by seed "
        f"{measured['seed']}, at severities 1 (mild) to 5 (severe)."
    ]


def _cases(found: Record) -> list[str]:
    cases = found.get("cases")
    if not cases:
        return []
    rest = f" The first {CASES} are shown; report.json has all." if len(cases) > CASES else ""
    return [f"Changed decisions: {len(cases):,}, the largest change of probability first.{rest}"]


def latency(bench: dict[str, Any] | None) -> Chapter:
    """What `bench` found, as `bench.bench.bench` returns it."""
    if not bench:
        return Chapter("latency", "Latency")
    shown = [Section(head[0], list(head[1:]), [(row[0], list(map(plain, row[1:]))) for row in rows]) for head, rows in
             bench_tables(bench)]  # fmt: skip
    text = [*bench_sentences(bench), *(" ".join(line.split()) for line in circumstances(bench))]
    return Chapter("latency", "Latency", text, cost.latency({"bench": bench}), shown)


def _remarks(found: Record) -> list[str]:
    return conclusions(found)[len(verdict_lines(found)) :]


def _licences(found: Record) -> list[str]:
    ancestors = found["bundle"].get("lineage") or []
    if not ancestors:
        return ["The bundle names no ancestors."]
    licences = ", ".join(sorted({each["licence"] for each in ancestors}))
    return [f"The licences of all ancestors bind the model: {licences}."]


def _machine(found: Record) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    features = ", ".join(found["cpu"]["features"])
    return [f"EdgeFM {found['edgefm']}, {versions}.", f"{found['cpu']['name']}" + (f", with {features}." if features else ".")]
