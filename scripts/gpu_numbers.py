"""What the README says of the GPU benchmarks' results. Not the table they stand in (`readme_numbers.py`).

What a result does not hold is not yet measured: time on a card may have ended before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NOT_YET = "not yet measured"


def attention(job: str) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        times = {
            row["shape"][2]: row["times_best_peer"] for row in found["rows"] if row["job"] == job and row["times_best_peer"]
        }
        said = ", ".join(f"{times[n]:.1f} times at {n:,} tokens" for n in sorted(times))
        return f"{said} ({found['device']})" if said else NOT_YET

    return text


def maps(found: dict[str, Any]) -> str:
    times = {name: each["graph_ms"] for name, each in found["cases"].items() if "graph_ms" in each}
    ratios = {name: each["compiled"] / each["edgefm"] for name, each in times.items() if {"compiled", "edgefm"} <= each.keys()}
    if not ratios:
        return NOT_YET
    said = ", ".join(f"{name}: {ratio:.1f} times" for name, ratio in ratios.items())
    lacking = "" if any("1370" in name for name in ratios) else f"; N = 1370 {NOT_YET}"
    return f"{said} ({found['device']}, without launches){lacking}"


def one_row(found: dict[str, Any]) -> str:
    peer = "bitsandbytes + PEFT"
    pairs = [[row["times"].get(name) for name in (peer, "edgefm")] for row in found["rows"] if "[1, " in row["case"]]
    captured = [pair for pair in pairs if all(isinstance(each, dict) and each.get("graph") for each in pair)]
    ratios = [theirs["graph"] / ours["graph"] for theirs, ours in captured]
    if not ratios:
        return NOT_YET
    card = found["device"] if "device" in found else found["card"]
    return f"{min(ratios):.1f} to {max(ratios):.1f} times ({card}, without launches)"


def lora_layers(base: str) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        times = [case["graph"] for case in found["cases"] if f" {base} " in case["case"] and "graph" in case]
        slower = [each["EdgeFM"] / each["PEFT compiled"] for each in times if {"EdgeFM", "PEFT compiled"} <= each.keys()]
        if not slower:
            return NOT_YET
        since = f"; the kernels have changed since, which is {NOT_YET}" if "earlier" in found else ""
        said = f"{min(slower):.2f} to {max(slower):.2f} times its time ({found['device']}, without launches){since}"
        return f"PEFT compiled is faster: {said}" if min(slower) >= 1 else f"against PEFT compiled: {said}"

    return text


def qlora(found: dict[str, Any]) -> str:
    if found["times_as_fast"] is None:
        return NOT_YET
    card = found["runs"]["EdgeFM"][0]["device"]
    return f"{found['times_as_fast']:.2f} times the images/s, {found['memory_ratio']:.2f} times the memory ({card})"
