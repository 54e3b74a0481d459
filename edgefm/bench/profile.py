"""A device profile on this machine: what of it can be imitated, and whether its budgets are met.

Not the device: clock, caches and memory bus stay this machine's, and the findings say so.

| of the profile | imitated by | what is missing then |
|---|---|---|
| cores | CPU affinity of each contender's process | |
| instructions | `runtime.cpu.openvino_cap`; `EDGEFM_ISA` (native engine, preparation) | ONNX Runtime has no such cap |
| memory | `RLIMIT_DATA` | pages of files, which a container counts and takes back when it must |

`RLIMIT_AS` would be no container: OpenVINO reserves four times the address space that it uses (539 MB for a process of 135 MB,
measured).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..runtime.cpu import cpu_features, openvino_cap, usable_threads
from ..spec.device import Device, Instructions
from .contender import Limits
from .machine import CPUS


class Cap(NamedTuple):
    """An instruction set: the processor's feature, the features above it, and the words of oneDNN and of our own kernels."""

    feature: str
    above: tuple[str, ...]
    onednn: str | None = None
    own: str | None = None


CAPS: Mapping[Instructions, Cap] = {
    "avx2": Cap("avx2", ("avx_vnni", "avx512f"), "AVX2", "avx2"),
    "avx_vnni": Cap("avx_vnni", ("avx512f",), "AVX2_VNNI", "avx_vnni"),
    "avx512": Cap("avx512f", ("avx512_vnni", "avx512_bf16", "amx_tile"), "AVX512_CORE", "avx512"),
    "avx512_vnni": Cap("avx512_vnni", ("avx512_bf16", "amx_tile"), "AVX512_CORE_VNNI", "avx512_vnni"),
    "avx512_bf16": Cap("avx512_bf16", ("avx512_fp16", "amx_tile"), "AVX512_CORE_BF16", "avx512_vnni"),
    "neon": Cap("asimd", ("asimddp", "i8mm")),
    "neon_dotprod": Cap("asimddp", ("i8mm",)),
}


class Imitation(NamedTuple):
    """What is done to each contender's process, and two lists of sentences: what is imitated, what is not.

    `bf16`: whether what computes in bf16 may take part.
    """

    limits: Limits
    imitated: list[str]
    missing: list[str]
    bf16: bool


def imitate(device: Device) -> Imitation:
    """How far this machine can stand in for a device."""
    imitated, missing = list[str](), list[str]()
    cpus = _cores(device, imitated, missing)
    environment = _instructions(device, imitated, missing)
    memory = None
    if device.memory_mib is not None and sys.platform == "linux":
        memory = device.memory_mib * 2**20
        imitated.append(f"memory: {device.memory_mib} MiB of its own for each process; pages of files are not counted")
    elif device.memory_mib is not None:
        missing.append(f"memory: no limit of {device.memory_mib} MiB can be set here")
    missing.append("clock, caches and memory bus are this machine's")
    bf16 = not environment or device.instructions == "avx512_bf16"
    return Imitation(Limits(cpus=cpus, memory=memory, environment=environment), imitated, missing, bf16)


def _cores(device: Device, imitated: list[str], missing: list[str]) -> tuple[int, ...] | None:
    if device.cores is None:
        return None
    here = usable_threads()
    if device.cores > here or not hasattr(os, "sched_setaffinity"):
        missing.append(f"cores: the device has {device.cores}, here are {here}")
        return None
    imitated.append(f"cores: {device.cores} by affinity")
    return apart(os.sched_getaffinity(0))[: device.cores]


def apart(cpus: set[int]) -> tuple[int, ...]:
    """Processors in such an order that the first n are n cores, as long as there are as many: hyperthreads come last."""
    seen, first, last = set(), list[int](), list[int]()
    for cpu in sorted(cpus):
        core = tuple(_read(CPUS / f"cpu{cpu}" / "topology" / name) or cpu for name in ("physical_package_id", "core_id"))
        (last if core in seen else first).append(cpu)
        seen.add(core)
    return (*first, *last)


def _instructions(device: Device, imitated: list[str], missing: list[str]) -> dict[str, str]:
    """The environment that caps the instruction set, {} where nothing does or nothing must."""
    wanted = device.instructions
    if wanted is None:
        return {}
    cap, has = CAPS[wanted], cpu_features()
    if not has.get(cap.feature):
        missing.append(f"instructions: this processor has no {wanted}")
        return {}
    above = [feature for feature in cap.above if has.get(feature)]
    if not above:
        imitated.append(f"instructions: {wanted} is this processor's own widest set")
        return {}
    if cap.onednn is None or cap.own is None:
        missing.append(f"instructions: {wanted} cannot be capped here, {', '.join(above)} stays in use")
        return {}
    imitated.append(f"instructions: {wanted} for OpenVINO, the native engine and the preparation of images")
    missing.append(f"instructions: ONNX Runtime cannot be capped at {wanted}; of torch only its oneDNN can")
    return openvino_cap(cap.onednn) | {"EDGEFM_ISA": cap.own}


def judge(device: Device, entered: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Hold the fastest contender of each bundle to the budgets.

    Args:
        entered: each bundle's file name with the records of its contenders (see `compare`).

    Returns:
        One record per bundle: `bundle`; `contender`, the one with the smallest p50 from file to answer, None if none ran;
        `met`; `budgets`, records of `name` (as in `spec.device.Budget`), `limit`, `found`, `upper` (the end of p95's interval,
        which decides; None elsewhere and without an interval), `met`.
    """
    verdicts = list[dict[str, Any]]()
    for file, records in entered:
        ran = [each for each in records if "error" not in each]
        if not ran:
            verdicts.append({"bundle": file, "contender": None, "met": False, "budgets": []})
            continue
        best = min(ran, key=lambda each: float(each["answer"]["p50"]))
        budgets = _held(device, best)
        met = all(each["met"] for each in budgets)
        verdicts.append({"bundle": file, "contender": best["name"], "met": met, "budgets": budgets})
    return verdicts


def _held(device: Device, record: dict[str, Any]) -> list[dict[str, Any]]:
    starts = record["start"]
    first = starts.get("first") or starts.get("again")
    interval = record["answer"]["p95_interval"]
    peak = max([record.get("peak_mib") or 0.0, *(each["peak_mib"] for each in starts.values())])
    values = {
        "latency_p95_ms": (record["answer"]["p95"], interval and interval[1]),
        "cold_start_s": (first and first["seconds"], None),
        "peak_memory_mib": (peak, None),
    }
    held = []
    for name, (found, upper) in values.items():
        limit = getattr(device.budget, name)
        if limit is not None and found is not None:
            met = (found if upper is None else upper) <= limit
            held.append({"name": name, "limit": limit, "found": found, "upper": upper, "met": met})
    return held


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
