"""What has changed between two findings of `bench` by more than noise explains.

Not a measurement. Nothing is compared that was not measured alike: on this machine, with these threads, image and profile.

A time has changed where the two intervals do not meet: those of the medians and of p95 with the machine's noise floor on both
sides (`noise.py`), and for starts the range of all of them. Peak memory has changed from `MEMORY` on, files from one byte on.
An image is the same if its content is (`sha256`), whatever it is called; a finding that tells no content is like no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InputError
from .noise import quoted, widened

MEMORY = 0.10  # share; the peaks of one bundle differ by a few percent from process to process
FIXED: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "machine": lambda found: _machine(found["machine"]),
    "threads": lambda found: found["threads"],
    "image": lambda found: found["image"] if "sha256" in found["image"] else object(),
    "device profile": lambda found: found.get("device") and [found["device"]["name"], found["device"]["profile"]],
}
SHOWN = ("cpu", "features", "physical_cores", "usable_threads", "cgroup_quota", "frequency", "memory_gib", "caps")
Line = tuple[str, str, float, float, Sequence[float] | None, Sequence[float] | None]


def change(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Compare.

    Args:
        old, new: findings, as in bench.json.

    Returns:
        `lines`, records of contender, what ("answer p50", …), unit, old, new, ratio (new over old), change: "more", "less", or
        None for none beyond noise; `added` and `gone`, names of contenders that only one has; `warnings`, sentences;
        `old` and `new`, when each was measured and the ids of its bundles.

    Raises:
        InputError: machine, threads, image or device profile differ.
    """
    differs = [name for name, of in FIXED.items() if of(old) != of(new)]
    if differs:
        raise InputError(
            f"the two were not measured alike: {', '.join(differs)} differ",
            expected="the same machine, threads, image and profile",
            do="measure both here, beside each other: edgefm bench OLD.efm NEW.efm",
        )
    before, after = (_ran(found) for found in (old, new))
    lines = [
        _compared(name, line)
        for name in before
        if name in after
        for line in _lines(before[name], after[name], old["noise"], new["noise"])
    ]
    return {
        "lines": lines,
        "added": [name for name in after if name not in before],
        "gone": [name for name in before if name not in after],
        "warnings": _warnings(old, new),
        **{
            word: {"when": found.get("when"), "bundles": [each["id"] for each in found["bundles"]]}
            for word, found in (("old", old), ("new", new))
        },
    }


def _lines(old: dict[str, Any], new: dict[str, Any], *noise: dict[str, Any] | None) -> list[Line]:
    """What can be compared of one contender. noise: the floor of the old and of the new finding."""
    lines: list[Line] = []
    for word in ("answer", "model"):
        one, two = old[word], new[word]
        lines.append((f"{word} p50", "ms", one["p50"], two["p50"], quoted(one), quoted(two)))
        tails = [widened(each.get("p95_interval"), floor) for each, floor in zip((one, two), noise, strict=True)]
        lines.append((f"{word} p95", "ms", one["p95"], two["p95"], *tails))
    for kind in ("first", "again"):
        if kind in old["start"] and kind in new["start"]:
            one, two = old["start"][kind], new["start"][kind]
            lines.append((f"{kind} start", "s", one["seconds"], two["seconds"], one.get("range"), two.get("range")))
    if old.get("peak_mib") and new.get("peak_mib"):
        one, two = old["peak_mib"], new["peak_mib"]
        ranges = [(each * (1 - MEMORY / 2), each * (1 + MEMORY / 2)) for each in (one, two)]
        lines.append(("peak memory", "MiB", one, two, *ranges))
    if "bytes" in old and "bytes" in new:
        one, two = old["bytes"], new["bytes"]
        lines.append(("files", "bytes", one, two, (one, one), (two, two)))
    return lines


def _compared(name: str, line: Line) -> dict[str, Any]:
    what, unit, old, new, one, two = line
    apart = None
    if one is not None and two is not None:  # without intervals nothing can be said
        apart = "more" if two[0] > one[1] else "less" if two[1] < one[0] else None
    return {
        "contender": name,
        "what": what,
        "unit": unit,
        "old": old,
        "new": new,
        "ratio": round(new / old, 3) if old else None,
        "change": apart,
    }


def _warnings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What else is not the same, and which of the two was disturbed."""
    found = [f"The {word} one: {each['disturbed']}" for word, each in (("old", old), ("new", new)) if each["disturbed"]]
    before, after = old["machine"]["versions"], new["machine"]["versions"]
    found += [
        f"{name} was {before.get(name, 'absent')} and is {after.get(name, 'absent')}."
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if old["machine"]["system"] != new["machine"]["system"]:
        found.append(f"The system was {old['machine']['system']} and is {new['machine']['system']}.")
    for each in (old, new):
        found += [f"{one['name']} failed: {one['error']}." for one in each["contenders"] if "error" in one]
    return found


def sentences(found: dict[str, Any]) -> list[str]:
    """What to remember of a comparison."""
    changed = [each for each in found["lines"] if each["change"]]
    lines = [*found["warnings"]]
    lines += [f"Only the new one has {name}." for name in found["added"]]
    lines += [f"Only the old one has {name}." for name in found["gone"]]
    if not found["lines"]:
        return [*lines, "The two have no contender in common."]
    if not changed:
        return [*lines, "Nothing has changed beyond noise."]
    return [*lines, f"{len(changed)} of {len(found['lines'])} numbers have changed beyond noise."]


def table(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of text."""
    return ("", "what", "old", "new", "ratio", "beyond noise"), [
        (
            each["contender"],
            f"{each['what']}, {each['unit']}",
            _number(each["old"]),
            _number(each["new"]),
            "-" if each["ratio"] is None else f"{each['ratio']:.2f}",
            each["change"] or "no",
        )
        for each in found["lines"]
    ]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _ran(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in found["contenders"] if "error" not in each}


def _machine(facts: dict[str, Any]) -> list[Any]:
    return [facts.get(name) or None for name in SHOWN]  # an older finding has no caps
