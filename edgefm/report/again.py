"""What to type to measure the same again: commands for a shell, with names in capitals for what only the reader has.

Not a record of what was typed: options that measure nothing are left out, and no file of this machine is named.

What was asked and cannot be seen in the findings is in the record's `asked`: `parity`, `settings` (of `--recipe` and `--set`,
those that differ from the bundle's own), `trust_remote_code`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from ..spec.device import DEVICES
from ..spec.gate import Gate

Record = Mapping[str, Any]


def commands(found: Record) -> str:
    """What to type to get the same record."""
    times = found.get("bench")
    lines = ["edgefm inspect BUNDLE.efm", *(timed(found, times) if times else [])]
    if found["gate"]:
        margins = found["gate"]["margins"]
        lines += [
            "cat > gate.yaml <<'END'",
            *(f"{name}: {margins.get(name, 'null')}" for name in Gate.__struct_fields__),
            "END",
        ]
    return "\n".join([*lines, " ".join(_verify(found))])


def _verify(found: Record) -> Iterator[str]:
    asked = found.get("asked") or {}
    yield f"edgefm verify BUNDLE.efm -d DATA --split {quote(found['data']['split'])} --seed {found['intervals']['seed']}"
    if _outside(found):
        yield "--against REFERENCE"
    if asked.get("trust_remote_code"):
        yield "--trust-remote-code"
    if found["bundle"]["refused"]:
        yield "--allow-refused"
    yield from (f"--set {quote(setting)}" for setting in asked.get("settings", ()))
    if found["gate"]:
        yield "--gate gate.yaml"
    if asked.get("parity", "variants") != "variants":
        yield f"--parity {quote(asked['parity'])}"
    yield from (f"--by {quote(each['column'])}" for each in found.get("subgroups") or ())
    if found.get("robustness"):
        yield f"--robustness {quote(found['robustness']['modality'])}"
    if found.get("cases") is not None:
        yield "--with-cases"
    if found.get("bench"):
        yield "--bench times/bench.json"
    yield "-o proof"


def timed(found: Record, times: Record) -> Iterator[str]:
    """The lines that time the same bundles with the same image, threads and device. Of `found` it reads the bundle's `id` and
    `refused`, of `times`, what `bench` found, nearly all."""
    words = ["edgefm bench", *_bundles(found, times), f"--runs {times['runs']} --threads {times['threads']}"]
    if not times["image"]["generated"]:
        words.append("--image IMAGE")
    if times.get("device"):
        name, profile = times["device"]["name"], times["device"]["profile"]
        if name not in DEVICES:
            name = quote(f"{name}.yaml")
            yield from (f"cat > {name} <<'END'", json.dumps(profile, ensure_ascii=False), "END")
        words.append(f"--profile {name}")
    if _rivals(times):
        words.append("--against torch:RIVAL")
    if any("throughput" in each for each in times["contenders"]):
        words.append("--throughput")
    if found["bundle"]["refused"]:
        words.append("--allow-refused")
    yield " ".join([*words, "-o times"])


def named(found: Record) -> list[str]:
    """What the names in capitals stand for, a sentence each."""
    data = found["data"]
    lines = [
        f"BUNDLE.efm is the file whose id is {found['bundle']['id']}.",
        f"DATA is {data['name']}, whose images and labels have the SHA-256 {data.get('sha256') or 'unknown'}.",
    ]
    if _outside(found):
        lines.append(f"REFERENCE is {found['reference']}.")
    if times := found.get("bench"):
        others = zip(_bundles(found, times), times["bundles"])
        lines += [f"{name} is the file whose id is {each['id']}." for name, each in others if name != "BUNDLE.efm"]
        if not times["image"]["generated"]:
            size = " x ".join(map(str, times["image"]["shape"]))
            lines.append(f"IMAGE is a {times['image']['kind']} of {size}, SHA-256 {times['image'].get('sha256') or 'unknown'}.")
        if rivals := _rivals(times):
            lines.append(f"RIVAL is {' and '.join(rivals)}.")
    return [*lines, "The same machine gives the same report, but for the times."]


def _outside(found: Record) -> bool:
    """Whether the reference is none of the bundle's own variants."""
    return found["reference"] is not None and found["reference"] not in found["bundle"].get("bytes", {})


def _bundles(found: Record, times: Record) -> list[str]:
    """A name for each bundle that was timed, in their order."""
    names = list[str]()
    for each in times["bundles"]:
        own = each["id"] == found["bundle"]["id"] and "BUNDLE.efm" not in names
        names.append("BUNDLE.efm" if own else f"OTHER{len(names) + 1}.efm")
    return names


def _rivals(times: Record) -> list[str]:
    """Whose model a rival is, once each; "unknown" where none of them ran."""
    return sorted({each.get("source") or "unknown" for each in times["contenders"] if each.get("rival")})
