"""EdgeFM's GPU kernels against their peers, the most valuable rows first: what each must reach, what it reaches, is it met.

Not the measuring: each row is a script of this folder, run in a process of its own, which writes its result after each of its
cases. `adapt --method qlora` as a whole is `gpu_adapt.py`.

    python benchmarks/gpu_kernels.py [--minutes 30] [--quick] [--out FOLDER]
    python benchmarks/gpu_kernels.py --device cpu --quick          every script once on tiny shapes, in Triton's interpreter

No row is started after `--minutes`; what was not measured is named at the end. A goal is met if EdgeFM reaches it as Python
calls it and on the card alone, where both were measured. Results go to results/NAME.json, or FOLDER; with --quick or without a
card to FOLDER alone. One that is there is replaced once its rows are all measured anew on the same card; else it stays, and the
new one is beside it as NAME.2.json: whoever has read both decides.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from measure import RESULTS, SKIPPED


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
        "attention with the gradient of its bias, then with importance",
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
    parser.add_argument("--quick", action="store_true", help="each script's fewer cases and runs")
    parser.add_argument("--minutes", type=float, default=30.0, help="start nothing after these (default 30)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="of the results")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in ROWS:
            left = (end - time.monotonic()) / 60
            folder = asked.out or (RESULTS if asked.device == "cuda" and not asked.quick else Path(scratch))
            outcomes.append(measured(row, asked, folder, left) if left > 0 else Outcome(None, "not measured: the time was up"))
    print("\n".join(line for row, outcome in zip(ROWS, outcomes) for line in said(row, outcome, asked.device == "cuda")))
    return int(any(outcome.missing.startswith("failed") for outcome in outcomes))


def measured(row: Row, asked: argparse.Namespace, folder: Path, minutes: float) -> Outcome:
    """Run the row's script for so many minutes at most, but for the case that it is at."""
    kept = folder / f"{row.script}.json"
    out = unused(kept)
    command = [sys.executable, str(Path(__file__).with_name(f"{row.script}.py")), "--device", asked.device]
    command += ["--minutes", f"{minutes:.2f}", "--out", str(out)] + ["--quick"] * asked.quick
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if asked.device == "cpu":
        environment |= {"TRITON_INTERPRET": "1", "EDGEFM_KERNELS": "triton"}
    print(f"== {row.what}", flush=True)
    code, last = ran(command, environment)
    found = json.loads(out.read_text()) if out.exists() else None
    beside = "" if found is None or out == kept else settled(kept, out)
    if code == SKIPPED:
        missing = f"not measured: {last}"
    elif code:
        missing = f"failed, exit code {code}: {last}"
    else:
        late = found["not_measured"] if found else ["all of it"]
        missing = f"not measured, the time was up: {', '.join(late)}" if late else ""
    return Outcome(found, "; ".join(filter(None, (missing, beside))))


def ran(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """A process's exit code and the last line that it wrote to stderr, all of which is passed on as it comes."""
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    last = ["it said nothing"]

    def pass_on() -> None:
        assert child.stderr is not None
        with child.stderr as lines:
            for line in lines:
                sys.stderr.write(line)
                last[0] = line.strip() or last[0]

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    code = child.wait()
    reader.join(10)  # a compiler that it started may hold the pipe open for ever
    return code, last[0]


def unused(file: Path) -> Path:
    """The file itself if it is not there; else the first of FILE.2, FILE.3, ... that is not."""
    number, found = 2, file
    while found.exists():
        found, number = file.with_suffix(f".{number}{file.suffix}"), number + 1
    return found


def settled(kept: Path, new: Path) -> str:
    """Put `new` in the place of `kept` if it is of the same card and has all its rows; else let both be, and say so."""
    old, fresh = (json.loads(file.read_text()) for file in (kept, new))
    of, now = (each.get("device", each.get("card")) for each in (old, fresh))
    if of != now:
        return f"{kept.name} stays, for it is of {of}; {new.name} is of {now}"
    if lost := sorted(compared(old) - compared(fresh)):
        return f"{kept.name} stays, for it has rows that {new.name} has not: {', '.join(lost)}"
    new.replace(kept)
    return ""


def compared(found: dict[str, Any]) -> set[str]:
    """The names of a result's rows in which EdgeFM stands beside a peer."""
    listed = found.get("cases", found.get("rows", []))
    if not isinstance(listed, dict):
        listed = {each["case"] if "case" in each else f"{each['job']} {each['shape']}": each for each in listed}
    return {name for name, row in listed.items() if beside_a_peer(row)}


def beside_a_peer(row: dict[str, Any]) -> bool:
    times: dict[str, Any] = next((row[key] for key in ("step", "ms", "contenders", "times") if key in row), {})
    ours = [name.lower().startswith("edgefm") for name, time in times.items() if not isinstance(time, str)]
    return any(ours) and not all(ours)


def said(row: Row, outcome: Outcome, card: bool) -> list[str]:
    """A row's goal, then a line for each comparison, and what is missing."""
    lines = [f"\n{row.what} ({row.script}.py)", f"  at least: {row.least}"]
    if outcome.found is not None:
        lines.append(f"  on: {outcome.found['device']}")
        for goal in outcome.found["goals"] if card else ():
            ratios = ", ".join(f"{ratio:.2f} times {kind}" for kind, ratio in goal["ratios"].items())
            met = {True: "met", False: "NOT met", None: "not measured"}[goal["met"]]
            lines.append(f"  {goal['row']}, {goal['over']}: {' · '.join(filter(None, (ratios, met)))}")
        lines += [f"  {name} failed: {reason}" for name, reason in outcome.found["failed"].items()]
        if not card:
            lines.append("  ran to its end")
    return [*lines, f"  {outcome.missing}"] if outcome.missing else lines


if __name__ == "__main__":
    sys.exit(main())
