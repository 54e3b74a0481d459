"""Where the time of `edgefm distill` goes: while its cache is filled, and in epochs that find it full.

Not how good the student becomes (`main_path.py`). It holds the claim that no time at all goes to the teacher once it was asked.

    python benchmarks/teacher_time.py [--share 0.2]

The teacher and the X-rays of the test data (EDGEFM_TEST_DATA), a share of the training patients; one epoch under Python's own
profiler, with an empty cache and again with that cache. Of the teacher count how often its network is built, how often it
runs, and the seconds of both.
"""

from __future__ import annotations

import argparse
import cProfile
import csv
import hashlib
import pstats
import tempfile
from pathlib import Path
from typing import Any

from main_path import LABELS, STUDENT, TEACHER
from measure import save

NETWORK = "timm/models/densenet.py"  # the teacher's; the student is a MobileNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.2, help="of the training patients")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = table(work / "labels.csv", options.share)
        found = {name: profiled(work, name) for name in ("empty cache", "full cache")}
    full = found["full cache"]
    holds = not any(full["teacher"].values()) and all(found["empty cache"]["teacher"].values())
    save("teacher_time", {"images": images, "epochs": 1, **found, "holds": holds})


def table(out: Path, share: float) -> dict[str, int]:
    """Write the CSV of `share` of the training patients and of all others; images per split."""
    with open(LABELS, newline="") as file:
        rows = [row | {"file": str(LABELS.parent / row["file"])} for row in csv.DictReader(file)]
    kept = [row for row in rows if row["split"] == "val" or (row["split"] == "train" and chance(row["patient"]) < share)]
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label", "patient", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    return {split: sum(row["split"] == split for row in kept) for split in ("train", "val")}


def chance(patient: str) -> float:
    return int(hashlib.sha256(patient.encode()).hexdigest()[:8], 16) / 2**32


def profiled(work: Path, name: str) -> dict[str, Any]:
    """Seconds in all, of the teacher, and the functions that took most by themselves."""
    import timm  # noqa: F401 - not to be counted

    import edgefm

    settings = ("distill.epochs=1", "distill.views=1")
    profile = cProfile.Profile()
    profile.enable()
    edgefm.distill(
        (str(TEACHER),), work / "labels.csv", work / name.replace(" ", "-"), STUDENT, cache=work / "cache", set=settings
    )
    profile.disable()
    stats = pstats.Stats(profile)
    built, passes, seconds = 0, 0, 0.0
    for (file, _, function), (_, number, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        if file.endswith(NETWORK) and function in ("densenet121", "forward_features"):
            built, passes = built + number * (function == "densenet121"), passes + number * (function == "forward_features")
            seconds += cumulative
    own = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:12]  # type: ignore[attr-defined]
    most = {f"{Path(file).name}:{function}": round(times[2], 2) for (file, _, function), times in own}
    return {
        "seconds": round(stats.total_tt, 1),  # type: ignore[attr-defined]
        "teacher": {"built": built, "forward_passes": passes, "seconds": round(seconds, 2)},
        "most_seconds_by_itself": most,
    }


if __name__ == "__main__":
    main()
