"""EdgeFM's GPU kernels against their peers, the most valuable rows first: what each must reach, what it reaches, is it met.

Not the measuring: each row is a script of this folder, run in a process of its own, which writes results/NAME.json after each
of its cases. `adapt --method qlora` as a whole is `gpu_adapt.py`.

    python benchmarks/gpu_kernels.py [--minutes 30] [--quick]
    python benchmarks/gpu_kernels.py --device cpu --quick          every script once on tiny shapes, in Triton's interpreter

Nothing is started after `--minutes`; what was not measured is named at the end. A goal is met if EdgeFM reaches it as Python
calls it and on the card alone, where both were measured. Without a card there are no times worth having and nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from measure import RESULTS


class Row(NamedTuple):
    """A line of what was asked for: what, by which script, and at least how many times as fast."""

    what: str
    script: str
    least: str


ROWS = (
    Row(
        "LoRA layers and MLPs, forward and backward, on a bf16, then an NF4 base",
        "gpu_lora",
        "bf16: 1.3 times PEFT compiled, 1.8 times PEFT eager; NF4: 1.5 times PEFT on bitsandbytes",
    ),
    Row(
        "attention_kl, forward and backward; its memory over tokens",
        "gpu_attention_kl",
        "5 times eager at 197 tokens, 10 times at 1,370; faster than compiled",
    ),
    Row(
        "attention with importance, then with the gradient of its bias",
        "gpu_attention",
        "1.5 times the best of eager, compiled, SDPA and flex_attention",
    ),
    Row(
        "LoRA on NF4, inference in CUDA C++, batch 1",
        "gpu_cuda",
        "2 times bitsandbytes and PEFT, 2 times dequantize and cuBLAS",
    ),
)


class Outcome(NamedTuple):
    """What became of a row: the result it wrote, if any, and why something is missing."""

    found: dict[str, Any] | None
    missing: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run on tiny shapes")
    parser.add_argument("--quick", action="store_true", help="each script's fewer cases and runs; keeps no result")
    parser.add_argument("--minutes", type=float, default=30.0, help="start nothing after these (default 30)")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in ROWS:
            left = (end - time.monotonic()) / 60
            folder = RESULTS if asked.device == "cuda" and not asked.quick else Path(scratch)
            outcomes.append(measured(row, asked, folder, left) if left > 0 else Outcome(None, "not measured: the time was up"))
    print("\n".join(line for row, outcome in zip(ROWS, outcomes) for line in said(row, outcome, asked.device == "cuda")))
    return int(any(outcome.missing.startswith("failed") for outcome in outcomes))


def measured(row: Row, asked: argparse.Namespace, folder: Path, minutes: float) -> Outcome:
    """Run the row's script for so many minutes at most, but for the case that it is at."""
    out = folder / f"{row.script}.json"
    before = out.stat().st_mtime_ns if out.exists() else None
    command = [sys.executable, str(Path(__file__).with_name(f"{row.script}.py")), "--device", asked.device]
    command += ["--minutes", f"{minutes:.2f}", "--out", str(out)] + ["--quick"] * asked.quick
    environment = dict(os.environ)
    if asked.device == "cpu":
        environment |= {"TRITON_INTERPRET": "1", "EDGEFM_KERNELS": "triton"}
    print(f"== {row.what}", flush=True)
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    found = json.loads(out.read_text()) if out.exists() and out.stat().st_mtime_ns != before else None
    if done.returncode == 2:
        return Outcome(found, f"not measured: {last}")
    if done.returncode:
        return Outcome(found, f"failed: {last}")
    late = found["not_measured"] if found else ["all of it"]
    return Outcome(found, f"not measured, the time was up: {', '.join(late)}" if late else "")


def said(row: Row, outcome: Outcome, card: bool) -> list[str]:
    """A row's goal, then a line for each comparison, and what is missing."""
    lines = [f"\n{row.what} ({row.script}.py)", f"  at least: {row.least}"]
    if outcome.found is not None:
        lines.append(f"  on: {outcome.found['device']}")
        for goal in outcome.found["goals"] if card else ():
            ratios = ", ".join(f"{ratio:.2f} times {kind}" for kind, ratio in goal["ratios"].items())
            met = {True: "met", False: "NOT met", None: "not measured"}[goal["met"]]
            lines.append(f"  {goal['row']}, {goal['over']}: {' · '.join(filter(None, (ratios, met)))}")
        if not card:
            lines.append("  ran to its end")
    return [*lines, f"  {outcome.missing}"] if outcome.missing else lines


if __name__ == "__main__":
    sys.exit(main())
