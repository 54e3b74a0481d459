"""How a verb's result looks on stdout: a few lines for a person, or JSON for a program.

Not the results themselves: each function of `api/` makes its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import printable
from .table import size, table

if TYPE_CHECKING:
    from .runtime.session import Answer

WIDTH = 44
NAMES = {"auc": "AUC"}


def show_answers(answers: Iterable[Answer], as_json: bool) -> int:
    """One line per answer, as it comes; 2 if any image could not be read."""
    broken = 0
    for number, answer in enumerate(answers):
        broken += answer.error is not None
        if as_json:
            _dump(_answer_json(answer))
            continue
        if number == 0:
            print(f"{'image':{WIDTH}} {'answer':20} {'probability':>11} {'ms':>8}  variant")
        print(_answer_line(answer), flush=True)
    return 2 if broken else 0


def _answer_json(answer: Answer) -> dict[str, Any]:
    """Without the embedding where there is a label: it is a thousand numbers that few want (`Session` gives them)."""
    source = answer.source.encode("utf-8", "backslashreplace").decode()  # a file's name need not be text
    if answer.error is not None:
        return {"source": source, "error": answer.error}
    record = answer.record() | {"source": source}
    if answer.label is not None or answer.probabilities:
        del record["embedding"]
    if answer.set is None:
        del record["set"], record["abstain"]
    del record["error"]
    return record


def _answer_line(answer: Answer) -> str:
    name = printable(answer.source)
    source = name if len(name) <= WIDTH else "..." + name[3 - WIDTH :]
    if answer.error is not None:
        error = answer.error.removeprefix(f"{source} ")  # a name that is shown whole is not said twice
        return f"{source:{WIDTH}} {'-':20} {'-':>11} {'-':>8}  {error}"
    if answer.label is None and answer.set is not None:
        label, probability = "abstain", f"{max(answer.probabilities.values()):.4f}"
    elif answer.label is None:
        size = 0 if answer.embedding is None else answer.embedding.size
        label, probability = f"{size} numbers", "see --json"
    elif isinstance(answer.label, str):
        label, probability = answer.label, f"{answer.probabilities[answer.label]:.4f}"
    else:
        label = ", ".join(answer.label) or "none"
        probability = f"{max(answer.probabilities.values()):.4f}"
    return f"{source:{WIDTH}} {printable(label):20} {probability:>11} {answer.milliseconds:>8.1f}  {answer.variant}"


def show_output(out: Path, as_json: bool) -> int:
    """What a verb wrote: a bundle in short, or the path."""
    if out.is_file() and out.suffix.lower() == ".efm":
        from .inspection import inspect_bundle, variant_lines

        found = inspect_bundle(out)
        if as_json:
            _dump({"out": str(out)} | found)
        else:
            print("\n".join(variant_lines(found)))
            print(f"\n{out}: {size(found['bytes'])}")
        return 0
    if as_json:
        _dump({"out": str(out), "files": sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())})
    else:
        print(out)
    return 0


def show_plan(lines: list[str], as_json: bool) -> int:
    """A dry run's plan; a person has read it on stderr already."""
    if as_json:
        _dump({"plan": lines})
    return 0


def show_inspection(found: dict[str, Any], as_json: bool) -> int:
    """A bundle's content or a model's nodes."""
    from .inspection import describe

    _dump(found) if as_json else print("\n".join(describe(found)))
    return 0


def show_doctor(found: dict[str, Any], as_json: bool) -> int:
    """The findings of `doctor`."""
    from .doctor import describe

    _dump(found) if as_json else print("\n".join(describe(found)))
    return 0


def show_bench(found: dict[str, Any], as_json: bool) -> int:
    """The contenders beside each other, or what has changed; 5 if a device's budget is not met, 2 if a contender failed."""
    from .bench import change
    from .bench.page import circumstances, sentences, tables

    if as_json:
        _dump(found)
    elif "lines" in found:
        print("\n".join([*table(*change.table(found)), "", *change.sentences(found)]))
    else:
        lines = circumstances(found)
        for head, rows in tables(found):
            lines += ["", *table(head, rows)]
        lines += [
            "",
            f"answer: from the file to the answer; ratio: its p50 over that of {found['reference']}",
            *sentences(found),
        ]
        print("\n".join(lines))
    if found.get("device") and not found["device"]["met"]:
        return 5
    return 2 if any("error" in each for each in found.get("contenders", ())) else 0


def show_verify(found: dict[str, Any], as_json: bool) -> int:
    """The tables of `verify`; 4 if parity is broken, 3 if the gate says no."""
    if as_json:
        _dump(found)
    else:
        from textwrap import wrap

        from .verify.page import conclusions, introduction, sections

        lines = [line for each in introduction(found) for line in wrap(each, 100)]
        for section in sections(found):
            lines += ["", section.title, *table(("", *section.head), section.lines())]
        lines += ["", *[line for each in conclusions(found) for line in wrap(each, 100)]]
        print("\n".join(lines))
    if not found["parity"]["passed"]:
        return 4
    return 3 if found["gate"] and not found["gate"]["passed"] else 0


def show_quickstart(found: dict[str, Any], as_json: bool) -> int:
    """The comparison at the end of the road; 3 if the gate refused."""
    if as_json:
        _dump(found)
    else:
        print("\n".join(_quickstart_lines(found)))
    return 3 if found["refused"] else 0


def _quickstart_lines(found: dict[str, Any]) -> list[str]:
    """The result as lines for a person."""
    metrics = [name for name in ("auc", "sensitivity") if any(name in row["metrics"] for row in found["rows"])]
    rows = [
        (
            row["name"],
            f"{row['weights_millions']:.1f} M",
            f"{row['megabytes']:.1f} MB",
            *[_interval(row["metrics"].get(name)) for name in metrics],
            "-" if row["flips"] is None else f"{row['flips']['count']} of {row['flips']['of']}",
            _milliseconds(row["milliseconds"]),
        )
        for row in found["rows"]
    ]
    paths, example = found["paths"], found["example"]
    yes = f"{found['verdict'][:1].upper()}{found['verdict'][1:]}."
    no = f"The gate refused int8 by its own images, the split val: {found['refused']}"
    verdict = no if found["refused"] else yes
    answer = ", ".join(f"{label} {chance:.3f}" for label, chance in example["probabilities"].items())
    return [
        "",
        *table(("model", "weights", "file", *[NAMES.get(name, name) for name in metrics], "flips", "ms"), rows),
        "",
        f"On {found['images']['test']} test images, with 95 % intervals. Flips: decisions unlike the fp32 student's.",
        "ms: from an image file to the answer, loaded and warm, the median.",
        verdict,
        f"All of it took {found['seconds']:.0f} s.",
        "",
        f"The answer for {example['image']}: {answer}",
        "",
        f"teacher           {paths['teacher']}",
        f"without teacher   {paths['without_teacher']}",
        f"student           {paths['student']}",
        f"{'refused bundle    ' if found['refused'] else 'bundle            '}{paths['model.efm']}",
        f"report            {paths['report.html']}",
        *([] if found["refused"] else ["", f"Next: edgefm run {paths['model.efm']} IMAGES"]),
    ]


def _interval(found: dict[str, float] | None) -> str:
    """A metric with its interval, which is missing where there is none."""
    if found is None:
        return "-"
    ends = "" if math.isnan(found["low"]) else f" ({found['low']:.3f}-{found['high']:.3f})"
    return f"{found['value']:.3f}{ends}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _dump(value: dict[str, Any]) -> None:
    """One JSON object on one line; a number that is not finite becomes null."""
    print(msgspec.json.encode(value).decode(), flush=True)


VIEWS: dict[str, Callable[[Any, bool], int]] = {
    "quickstart": show_quickstart,
    "adapt": show_output,
    "distill": show_output,
    "quantize": show_output,
    "export": show_output,
    "verify": show_verify,
    "bench": show_bench,
    "run": show_answers,
    "inspect": show_inspection,
    "slim": show_output,
    "doctor": show_doctor,
}
