"""What `bench` found as tables and sentences, and as bench.json and bench.md in a folder.

Not the measuring, and not the terminal (`views.py`), which lines the same tables up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError
from ..partial import check_output, write_atomically
from .energy import NOT_READABLE
from .history import NAME, append
from .noise import quoted
from .serve import STAGES

FILES = ("bench.json", "bench.md")
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
METHOD = """Each contender is a process of its own. Warm: they take turns, in an order that changes each round, and each process
times itself. Answer: from the file, decoding, preparation, the model and the decision. Start: from a new process to its first
answer, median, with the files in the system's cache; the first start finds nothing kept from an earlier one. Peak memory: of
that process, up to its first answer. The interval of the median is a bootstrap's over blocks of neighbouring runs, and on both
sides of it lies the noise floor: what processes of one contender differ by. Torch runs in inference mode, channels last, behind
EdgeFM's own preparation of the image."""
BUDGETS = {
    "latency_p95_ms": ("p95 from file to answer", "ms"),
    "cold_start_s": ("cold start", "s"),
    "peak_memory_mib": ("peak memory", "MiB"),
}


def check_folder(folder: Path, force: bool) -> None:
    """Raise `InputError` now, before the minutes of measuring, if the two files could not be written."""
    for name in FILES:
        check_output(folder / name, force)
    check_output(folder / NAME, force=True)
    if (folder / NAME).is_dir():
        raise InputError(f"{folder / NAME} is a folder", expected="the history of this folder", do="choose another -o")


def write_page(folder: Path, found: dict[str, Any]) -> None:
    """Write both files, each whole or not at all, and add to the history. Raises `InputError` if the disk refuses."""
    texts = msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n", markdown(found).encode()
    for name, text in zip(FILES, texts, strict=True):
        write_atomically(folder / name, text)
    append(folder, found)


def tables(found: dict[str, Any]) -> list[Table]:
    """Tables, head and rows of text: the times of loaded models; what a start and the files cost; and, where measured,
    stages with the energy, images per second, and budgets."""
    ran = [each for each in found["contenders"] if "error" not in each]
    tail = ["p95"] if any(each["answer"]["p99"] is None for each in ran) else ["p95", "p99"]
    warm = [
        (
            each["name"],
            each["precision"],
            _figure(each["answer"]["p50"]),
            _interval(quoted(each["answer"])),
            *[_figure(each["answer"][name]) for name in tail],
            f"{each['ratio']:.2f}",
            _figure(each["model"]["p50"]),
            *[_figure(each["model"][name]) for name in tail],
        )
        for each in ran
    ]
    starts = [
        (
            each["name"],
            f"{_figure(each['bytes'] / 1e6)} MB" if "bytes" in each else "-",
            *[cell for kind in ("first", "again") for cell in _start(each["start"].get(kind))],
        )
        for each in ran
    ]
    return [
        (("warm, ms", "runs in", "answer p50", "95 % interval", *tail, "ratio", "model p50", *tail), warm),
        (("from a new process", "files", "first start", "peak memory", "later starts", "peak memory"), starts),
        *_stages(ran),
        *_throughput(ran),
        *_budgets(found["device"]),
    ]


def _stages(ran: list[dict[str, Any]]) -> list[Table]:
    rows = [
        (each["name"], *[_figure(each["stages"][name]) for name in STAGES], _energy(each.get("energy")))
        for each in ran
        if "stages" in each
    ]
    return [(("within an answer, ms", *STAGES, "energy"), rows)] if rows else []


def _energy(found: dict[str, Any] | str | None) -> str:
    return f"{found['joules']:.3g} J" if isinstance(found, dict) else NOT_READABLE


def _throughput(ran: list[dict[str, Any]]) -> list[Table]:
    points = sorted({(each["threads"], each["batch"]) for one in ran for each in one.get("throughput", ())})
    rows = []
    for one in ran:
        rates = {(each["threads"], each["batch"]): _figure(each["images_per_second"]) for each in one.get("throughput", ())}
        if rates:
            rows.append((one["name"], *[rates.get(point, "-") for point in points]))
    head = [f"{batch} on {threads}" for threads, batch in points]
    return [(("images per second, batch on threads", *head), rows)] if rows else []


def _budgets(device: dict[str, Any] | None) -> list[Table]:
    rows: list[tuple[str, ...]] = [
        (
            f"{verdict['bundle']} {verdict['contender']}",
            BUDGETS[each["name"]][0],
            f"{each['limit']:g} {BUDGETS[each['name']][1]}",
            f"{_figure(each['found'])}" + (f", at most {_figure(each['upper'])}" if each["upper"] else ""),
            _met(each),
        )
        for verdict in (device["verdicts"] if device else ())
        for each in verdict["budgets"]
    ]
    return [((f"budget of {device['name']}", "what", "limit", "found here", ""), rows)] if device and rows else []


def _met(budget: dict[str, Any]) -> str:
    """Whether a budget is met: yes, no, or that so few runs do not tell."""
    return f"needs {budget['needs']} runs" if budget["met"] is None else "met" if budget["met"] else "not met"


def sentences(found: dict[str, Any]) -> list[str]:
    """What to remember of the tables, and what did not go well."""
    ran = [each for each in found["contenders"] if "error" not in each]
    bundles = [each for each in ran if not each.get("rival")]
    lines = [found["disturbed"]] if found["disturbed"] else []
    lines += _device(found["device"])
    for name, each in ((each["name"], each) for each in found["contenders"] if "error" in each):
        lines.append(f"{name} failed: {each['error']}.")
    if bundles:
        fastest = min(bundles, key=_p50)
        level = [each["name"] for each in bundles if each is not fastest and _overlap(each, fastest)]
        also = f" {', '.join(level)}: no different as far as {found['runs']} runs tell." if level else ""
        lines.append(f"Fastest from file to answer: {fastest['name']}, {_figure(_p50(fastest))} ms.{also}")
        rivals = [each for each in ran if each.get("rival")]
        if rivals:
            best = min(rivals, key=_p50)
            times = _p50(best) / _p50(fastest)
            lines.append(f"The best rival, {best['name']}, takes {_figure(_p50(best))} ms: {times:.1f} times as long.")
    lines += [f"{each['name']} stopped at {each['throughput_stopped']}." for each in ran if "throughput_stopped" in each]
    lines += [f"Left out: {name}, because {reason}." for name, reason in found["left_out"].items()]
    return lines


def _device(device: dict[str, Any] | None) -> list[str]:
    """What the budgets came to, and what of the device was here."""
    if device is None:
        return []
    lines = []
    for each in device["verdicts"]:
        missed = [BUDGETS[one["name"]][0] for one in each["budgets"] if one["met"] is False]
        open_ = [f"{BUDGETS[one['name']][0]} {_met(one)}" for one in each["budgets"] if one["met"] is None]
        if each["contender"] is None:
            lines.append(f"{each['bundle']} does not run within the limits of {device['name']}.")
        elif missed:
            lines.append(f"{each['bundle']} does not meet the budget of {device['name']}: {', '.join(missed)}.")
        elif open_:
            here = f"{each['bundle']} was not shown to meet the budget of {device['name']}"
            lines.append(f"{here}: {', '.join(open_)}, and had {each['runs']}.")
        else:
            lines.append(f"{each['bundle']} meets the budget of {device['name']}, as far as it is imitated here.")
    lines += [f"Imitated: {each}." for each in device["imitated"]]
    return lines + [f"Not imitated here: {each}." for each in device["not_imitated"]]


def circumstances(found: dict[str, Any]) -> list[str]:
    """Files, image and machine, a line each."""
    machine, image, load, noise, energy = (found[name] for name in ("machine", "image", "load", "noise", "energy"))
    rivals = sorted({each["source"] for each in found["contenders"] if each.get("source")})
    size = " x ".join(map(str, image["shape"]))
    versions = sorted({each["version"] for each in found["contenders"] if each.get("version")})
    clock, limit = machine["frequency"], machine["memory_gib"]["limit"]
    cores = f", {machine['physical_cores']} cores" if machine["physical_cores"] else ""
    quota = f", quota {machine['cgroup_quota']:g}" if machine["cgroup_quota"] else ""
    caps = ", ".join(f"{name}={value}" for name, value in machine["caps"].items())
    return [
        *[f"bundle     {each['file']}, {_figure(each['bytes'] / 1e6)} MB, id {each['id'][:16]}" for each in found["bundles"]],
        *[f"rival      {source}" for source in rivals],
        f"image      {'generated ' if image['generated'] else ''}{image['kind']}, {size}, {image['dtype']}",
        f"processor  {machine['cpu']}, {found['threads']} of {machine['usable_threads']} threads{cores}{quota}",
        *([f"clock      {clock['governor']}, up to {clock['max_mhz']} MHz"] if clock else []),
        *([f"capped     {caps}"] if caps else []),
        f"memory     {machine['memory_gib']['total']} GiB" + (f", limited to {limit} GiB" if limit else ""),
        f"load       {load['load_before']} before, {load['load_after']} after",
        *([f"noise      {100 * noise['share']:.1f} % between processes of one contender"] if noise else []),
        f"energy     {energy if isinstance(energy, str) else _source(energy)}",
        f"software   {machine['system']}; {', '.join(versions)}",
    ]


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    parts = ["# What it costs on this machine", *sentences(found)]
    for head, rows in tables(found):
        lines = [head, ("---",) + ("---:",) * (len(head) - 1), *rows]
        parts.append("\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines))
    facts = "\n".join("- " + " ".join(line.split()) for line in circumstances(found))
    return "\n\n".join([*parts, f"Ratio: the median over that of {found['reference']}.\n{METHOD}", facts]) + "\n"


def _source(energy: dict[str, Any]) -> str:
    """Where joules come from, and what an idle machine takes."""
    idle = "" if energy["idle_w"] is None else f"; {energy['idle_w']:g} W at rest are within"
    return {"rapl": "the processor package's counter (RAPL)", "battery": "the battery's power"}[energy["source"]] + idle


def _p50(record: dict[str, Any]) -> float:
    return float(record["answer"]["p50"])


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two medians' intervals meet; unknown intervals do."""
    first, second = quoted(one["answer"]), quoted(other["answer"])
    return not (first and second) or (first[0] <= second[1] and second[0] <= first[1])


def _start(found: dict[str, Any] | None) -> tuple[str, str]:
    return ("-", "-") if found is None else (f"{found['seconds']:.2f} s", f"{found['peak_mib']:.0f} MiB")


def _interval(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{_figure(interval[0])} to {_figure(interval[1])}"


def _figure(value: float) -> str:
    """Three figures, from 1 on."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"
