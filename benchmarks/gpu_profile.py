"""Where a call's time on the card goes: which kernels it launches, how often, and what they take, by torch.profiler.

Not its time, which the profiler changes: `gpu_measure.py`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gpu_contenders import PATIENCE, Call, why, within

PROFILED, NAMED = 3, 10  # calls under the profiler; kernels that are named, the largest


def kernels(call: Call) -> dict[str, Any]:
    """What one call makes the card do, by torch.profiler: kernels, copies and fills.

    For when all times are taken: a profiler that was attached once slows every launch after it. Caches are as the call before
    left them, so the sum may lie below `Clock.alone`'s time.

    Returns:
        See `launched`; or `why` there is nothing.
    """
    from torch.profiler import ProfilerActivity, profile

    os.environ["TEARDOWN_CUPTI"] = "0"  # detached and attached again it crashes beside CUDA graphs (CUDA before 12.6)
    try:
        with within(PATIENCE), tempfile.TemporaryDirectory() as folder:
            for _ in range(3):
                call()
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
                for _ in range(PROFILED):
                    call()
                torch.cuda.synchronize()
            seen.export_chrome_trace(f"{folder}/trace.json")
            events = json.loads(Path(folder, "trace.json").read_text(), strict=False)["traceEvents"]
        return launched(events, PROFILED)
    except Exception as error:
        return {"why": why(error)}


def launched(events: list[dict[str, Any]], calls: int) -> dict[str, Any]:
    """Of so many calls' trace, for one call: `launches`, `us` of the card, and `largest`, name -> launches and us of each."""
    taken: dict[str, list[float]] = {}
    for event in events:
        if str(event.get("cat")).lower() in ("kernel", "gpu_memcpy", "gpu_memset"):
            taken.setdefault(_named(event), []).append(event["dur"])
    if not taken:
        return {"why": "the profiler recorded no kernel"}
    each = {name: (round(len(one) / calls, 2), round(sum(one) / calls, 1)) for name, one in taken.items()}
    largest = sorted(each, key=lambda name: each[name][1], reverse=True)[:NAMED]
    us = round(sum(map(sum, taken.values())) / calls, 1)
    launches = round(sum(map(len, taken.values())) / calls, 2)
    return {"launches": launches, "us": us, "largest": {name: each[name] for name in largest}}


def _named(event: Mapping[str, Any]) -> str:
    """A kernel without its namespaces, at most 80 letters; blocks and registers, which tell one product from another."""
    name, facts = re.sub(r"^void |\(anonymous namespace\)::|\w+::", "", event["name"])[:80], event.get("args", {})
    if "grid" not in facts:
        return name
    return f"{name} ({'x'.join(map(str, facts['grid']))} blocks, {facts.get('registers per thread')} registers)"
