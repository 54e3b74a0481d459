"""The evidence of a real bundle: `verify` with everything, and how often the gate would refuse it on other draws of patients.

Not the making of the bundle (`main_path.py`, `main_path_int8.py`, with the same --work) and no simulation (`gate_errors.py`).

    python benchmarks/evidence.py [--work runs/main_path] [--seed 0] [--epochs 6] [--draws 200]

False alarms: the int8 student against its own fp32, which it equals but for round-off, on bootstrap draws of the test split by
patient. A draw is a hospital with as many patients; what the gate refuses there is refused by chance.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from gate_errors import GATE, TASK, record, share
from main_path import LABELS, ROOT, TEACHER, folder, test_images, variant_answers, workplace
from measure import save

from edgefm.verify.gate import floors, judged

INNER = 500  # draws of the gate's own intervals
SMALL, LARGE = "openvino-int8", "openvino-fp32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "main_path")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    bundle = folder(workplace(options), "distilled", options.seed).with_suffix(".int8.efm")
    found, seconds = verified(bundle)
    alarms = false_alarms(bundle, options.draws)
    save("evidence", {"verify_seconds": seconds, "false_alarms": alarms, "report": found})


def verified(bundle: Path) -> tuple[dict[str, Any], float]:
    """The findings of `edgefm verify` against the teacher, and the seconds that it took."""
    import edgefm

    with TemporaryDirectory() as out:
        start = time.perf_counter()
        edgefm.verify(bundle, LABELS, against=TEACHER, parity="all", out=Path(out) / "report", allow_refused=True)
        seconds = round(time.perf_counter() - start, 1)
        return json.loads((Path(out) / "report" / "report.json").read_bytes()), seconds


def false_alarms(bundle: Path, draws: int) -> dict[str, Any]:
    """The share of draws in which the gate refuses, in all and by check, with Clopper-Pearson intervals of 95 %."""
    files, truth, patients = test_images()
    chances = [np.clip(variant_answers(bundle, name, files), 1e-12, 1 - 1e-12) for name in (LARGE, SMALL)]
    margins = [np.log(p) - np.log1p(-p) for p in chances]
    one = partial(refused, margins, truth, patients)
    with ProcessPoolExecutor() as pool:
        passed = list(pool.map(one, range(draws), chunksize=5))
    counts = {name: sum(not each[name] for each in passed) for name in passed[0]}
    return {"draws": draws, "inner": INNER, "margins": GATE.margins()} | {
        "refused": {name: share(count, draws) for name, count in counts.items()}
    }


def refused(margins: list[np.ndarray], truth: np.ndarray, patients: np.ndarray, seed: int) -> dict[str, bool]:
    """Whether each check passes on one draw of whole patients, and whether all do."""
    drawn = np.random.default_rng(seed).integers(patients.max() + 1, size=patients.max() + 1)
    members = [np.flatnonzero(patients == patient) for patient in drawn]  # one drawn twice is two patients
    rows, groups = np.concatenate(members), np.repeat(np.arange(len(drawn)), [len(each) for each in members])
    found = judged(
        [record([each[rows] for each in margins], truth[rows].astype(np.int64), groups, seed, INNER)],
        GATE,
        floors(truth[rows].astype(np.int64), groups, TASK),
    )
    return {each["what"]: each["passed"] is not False for each in found["checks"]} | {"all": found["passed"]}


if __name__ == "__main__":
    main()
