"""The main path on chest X-rays: what distillation adds to labels, with all labels and with those of 10 % of the patients.

Not a timing (`main_path_speed.py`) and not int8 (`main_path_int8.py`): students in fp32, on the 1,211 test images.

    python benchmarks/main_path.py [--work runs/main_path] [--seeds 0 1 2] [--epochs 6] [--equal-time]

Teacher and images are those of the test data (EDGEFM_TEST_DATA). Every arm is one `edgefm distill` in a process of its own:
the same student, recipe, order and number of updates. Each runs on one core, as many at once as there are cores: on one this
student trains at 60 images a second, on two at 73. A run that was stopped goes on where it was. One arm more compares at equal
processor time: the control arm for as long as distillation took with its teacher.
"10 % of the labels": of the patients of train. val keeps its labels, and every arm chooses its epoch by them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import queue
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import save

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data"))
TEACHER = DATA / "teachers" / "densenet121_cxr"
LABELS = DATA / "cxr_pneumonia" / "labels.csv"
STUDENT = "mobilenetv3_small_100"
VIEWS = 2


@dataclass(frozen=True)
class Arm:
    """One way to train the student. `share` of the training patients keep their labels."""

    teacher: bool
    share: float = 1.0


ARMS = {  # in an order in which the third of two at once finds the cache of the first
    "distilled": Arm(teacher=True),
    "without teacher": Arm(teacher=False),
    "without teacher, 10 % of the labels": Arm(teacher=False, share=0.1),
    "distilled, 10 % of the labels": Arm(teacher=True, share=0.1),
}
PAIRS = (
    ("distilled", "without teacher"),
    ("distilled, 10 % of the labels", "without teacher, 10 % of the labels"),
)
TIMED = {"without teacher, as long": Arm(teacher=False)}
TEACHERS = 0.005  # of AUC: as far below the teacher a student of all labels may be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "main_path")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--equal-time", action="store_true", help="the arm more")
    options = parser.parse_args()
    work = workplace(options)
    work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, dict[str, float]] = {}
    epochs = dict.fromkeys(ARMS, options.epochs)
    for seed in options.seeds:  # all are there for one seed before the next begins
        side_by_side(work, [(name, seed) for name in ARMS], epochs, seconds)
    if options.equal_time:
        epochs |= as_long(seconds, options.epochs, options.seeds[0])
        side_by_side(work, [(name, seed) for name in TIMED for seed in options.seeds], epochs, seconds)
    files, truth, patients = test_images()
    found = {name: {seed: answers(work, name, int(seed), files) for seed in done} for name, done in seconds.items()}
    teacher = teacher_answers(work, files)
    known = {name: {seed: None if math.isnan(took) else took for seed, took in each.items()} for name, each in seconds.items()}
    save("main_path", results(found, teacher, truth, patients) | {"epochs": epochs, "processor_seconds": known})


def workplace(options: argparse.Namespace) -> Path:
    """The folder of everything that was made with these settings."""
    return Path(options.work.absolute() / f"{options.epochs}-epochs-{VIEWS}-views")


def side_by_side(work: Path, runs: list[tuple[str, int]], epochs: dict[str, int], seconds: dict[str, dict[str, float]]) -> None:
    """Train arms, each with its seed and on a core of its own; `seconds` takes the processor seconds of each."""
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    arms = ARMS | TIMED

    def on_a_core(run: tuple[str, int]) -> float:
        core, (name, seed) = cores.get(), run
        os.sched_setaffinity(0, {core})  # of this thread, and so of the process that it starts
        try:
            return train(work, name, arms[name], seed, epochs[name])
        finally:
            cores.put(core)

    for share in {arms[name].share for name, _ in runs}:
        labels(work, share)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for (name, seed), took in zip(runs, pool.map(on_a_core, runs)):
            seconds.setdefault(name, {})[str(seed)] = took


def train(work: Path, name: str, arm: Arm, seed: int, epochs: int) -> float:
    """Train one arm if it is not there yet; the processor seconds that it took, its teacher's passes included."""
    run, clock = folder(work, name, seed), folder(work, name, seed).with_suffix(".seconds.json")
    if run.exists():
        return spent(clock)
    table = work / f"labels-{arm.share:g}.csv"
    command = [sys.executable, "-m", "edgefm", "distill", "-t", str(TEACHER), "-s", STUDENT, "-d", str(table)]
    command += ["-o", str(run), "--seed", str(seed), "--set", f"distill.epochs={epochs}", "--set", f"distill.views={VIEWS}"]
    # a cache of its own for each arm whose time counts: what is asked of the teacher is paid for by who asks
    own = work / f"cache-{run.name}" if arm.teacher and arm.share == 1 else work / f"cache-distilled-{seed}"
    command += ["--cache", str(own)] if arm.teacher else ["--without-teacher"]
    command += ["--resume"] if run.with_name(run.name + ".partial").exists() else []
    print(f"{time.strftime('%H:%M')} {name}, seed {seed}, {epochs} epochs", flush=True)
    before = json.loads(clock.read_text()) if clock.exists() else []
    clock.write_text(json.dumps([*before, None]))
    child = os.posix_spawn(sys.executable, command, os.environ | {"PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(child, 0)
    clock.write_text(json.dumps([*before, round(usage.ru_utime + usage.ru_stime, 1)]))
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{name}, seed {seed}: edgefm distill ended with {os.waitstatus_to_exitcode(status)}")
    return spent(clock)


def spent(clock: Path) -> float:
    """Processor seconds of a run over all its starts; not a number where this script was killed and never knew them."""
    parts = json.loads(clock.read_text()) if clock.exists() else [None]
    return math.nan if None in parts else round(sum(parts), 1)


def as_long(seconds: dict[str, dict[str, float]], epochs: int, seed: int) -> dict[str, int]:
    """Epochs that the control arm can afford in the processor time of distillation with its cache."""
    whole, alone = seconds["distilled"][str(seed)], seconds["without teacher"][str(seed)]
    if math.isnan(whole + alone):
        raise SystemExit(f"seed {seed} was stopped and its processor time is not known: train it anew in another --work")
    return {"without teacher, as long": max(1, round(epochs * whole / alone))}


def folder(work: Path, name: str, seed: int) -> Path:
    return work / f"{name.replace(' %', '%').replace(',', '').replace(' ', '-')}-{seed}"


def labels(work: Path, share: float) -> None:
    """Write the CSV with the labels of `share` of the training patients, by a hash of their names, and no others."""
    with open(LABELS, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["file"] = str(LABELS.parent / row["file"])
        chance = int(hashlib.sha256(row["patient"].encode()).hexdigest()[:8], 16) / 2**32
        if row["split"] == "train" and chance >= share:
            row["label"] = ""
    with open(work / f"labels-{share:g}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label", "patient", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_images() -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files of the test split, whether each shows pneumonia, bool `[N]`, and patients, int64 `[N]`."""
    with open(LABELS, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    patients = np.unique([row["patient"] for row in rows], return_inverse=True)[1]
    return [LABELS.parent / row["file"] for row in rows], np.array([row["label"] == "pneumonia" for row in rows]), patients


def answers(work: Path, name: str, seed: int, files: list[Path]) -> np.ndarray:
    """The student's probability of pneumonia, float64 `[N]`, by the runtime on its fp32 bundle."""
    return bundle_answers(folder(work, name, seed), folder(work, name, seed).with_suffix(".efm"), files)


def teacher_answers(work: Path, files: list[Path]) -> np.ndarray:
    return bundle_answers(TEACHER, work / "teacher.efm", files)


def bundle_answers(model: Path, bundle: Path, files: list[Path]) -> np.ndarray:
    import edgefm

    edgefm.export(model, bundle, force=True)
    return variant_answers(bundle, "onnx-fp32", files)


def variant_answers(bundle: Path, variant: str, files: list[Path]) -> np.ndarray:
    """The probability of pneumonia, float64 `[N]`, by the runtime; of a refused bundle, too."""
    import edgefm

    with edgefm.Session(bundle, variant=variant, allow_refused=True) as session:
        return np.array([answer.probabilities["pneumonia"] for answer in session.stream(files)])


def results(
    found: dict[str, dict[str, np.ndarray]], teacher: np.ndarray, truth: np.ndarray, patients: np.ndarray
) -> dict[str, Any]:
    """AUC and balanced accuracy of every run, and paired differences of the means over seeds, with intervals by patient."""
    arms = {name: {seed: point(each, truth) for seed, each in runs.items()} for name, runs in found.items()}
    differences = {}
    for one, other in [*PAIRS, ("distilled", "the teacher"), *compared(found)]:
        first = list(found[one].values())
        second = [teacher] if other == "the teacher" else list(found[other].values())
        differences[f"{one} - {other}"] = difference(first, second, truth, patients)
    return {"images": len(truth), "patients": int(patients.max()) + 1, "teacher": point(teacher, truth), "arms": arms} | {
        "auc_differences": differences,
        "holds": holds(differences),
    }


def holds(differences: dict[str, dict[str, float]]) -> dict[str, bool]:
    """Whether the student is as near its teacher as promised, by the mean over seeds, and ahead of each control arm, by the
    lower end of the interval."""
    return {
        pair: each["value"] >= -TEACHERS if pair.endswith("the teacher") else each["low"] > 0
        for pair, each in differences.items()
    }


def compared(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in TIMED:
        if name in found:
            yield "distilled", name


def point(probability: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """AUC, and at the threshold sensitivity, specificity and their mean."""
    from edgefm.verify.metrics import auc

    decided = probability >= threshold
    sensitivity, specificity = float(decided[truth].mean()), float((~decided)[~truth].mean())
    return {
        "auc": round(auc(probability, truth), 5),
        "sensitivity": round(sensitivity, 5),
        "specificity": round(specificity, 5),
        "balanced_accuracy": round((sensitivity + specificity) / 2, 5),
    }


def difference(one: list[np.ndarray], other: list[np.ndarray], truth: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """Mean AUC of some runs less that of others, on the same resampled patients; runs are not resampled."""
    from edgefm.verify.intervals import bootstrap_intervals
    from edgefm.verify.metrics import auc

    def metrics(rows: np.ndarray) -> dict[str, float]:
        means = [np.mean([auc(each[rows], truth[rows]) for each in runs]) for runs in (one, other)]
        return {"auc": float(means[0] - means[1])}

    found = bootstrap_intervals(metrics, patients)["auc"]
    return {name: round(float(value), 5) for name, value in found._asdict().items()}


if __name__ == "__main__":
    main()
