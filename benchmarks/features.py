"""Features of a frozen teacher in a student from random weights, on skin lesions: what a linear probe makes of them.

Not classification by the student itself (`main_path.py`).

    python benchmarks/features.py [--work runs/features] [--epochs 48] [--seed 0]

Teacher: MobileNetV2 as int8 TFLite, at the 7 x 7 x 1280 activation before its head. Images: ham10000. One student learns from
the teacher's features, pooled and of patches, and from labels beside them (`distill.task=data`); one from the features alone,
no label; their rival is the same student, trained on the labels alone of the same images with as many updates. Balanced
accuracy on the test images of linear probes on the features of all, and of the heads that learned labels.

What was tried with the features alone, student's probe: pooled features, 10 epochs 0.38; with patch tokens 0.40; with the
cosine of features about the teacher's mean 0.40; 48 epochs and 8 views 0.43 and, on another machine, 0.47. The teacher's own
probe says 0.54, less than the labels of these 1,245 images teach the same student from random weights (0.55): features of
this teacher alone carry less.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from measure import save

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data"))
TEACHER, TAP = DATA / "weights" / "mobilenet_v2_int8.tflite", "Transpose_5528"
LABELS = DATA / "ham10000" / "labels.csv"
STUDENT = "mobilenetv3_small_100"
SETTINGS = ("distill.views=8", "distill.losses.features=1.0", "distill.losses.tokens=1.0")
LABELS_TOO = ("distill.task=data", "distill.losses.labels=1.0")
SHARE = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "features")
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made_with = hashlib.sha256(repr((SETTINGS, LABELS_TOO)).encode()).hexdigest()[:8]
    work = options.work.absolute() / f"{options.epochs}-epochs-seed-{options.seed}-{made_with}"
    runs = train(work, options.epochs, options.seed)
    correct, truth = zip(*(answers(run) for run in runs.values()))
    found = statement(dict(zip(runs, correct)), truth[0])
    rows = found["balanced_accuracy"]
    rivals = rows["supervised"]["value"], rows["supervised, probe"]["value"]
    least = SHARE * rows["teacher, probe"]["value"]
    save(
        "features",
        {
            "student": STUDENT,
            "epochs": options.epochs,
            "settings": SETTINGS,
            "with labels": LABELS_TOO,
            "seed": options.seed,
            "images": counts(),
            **found,
            "holds": {
                "features alone: share of the teacher's": rows["student, probe"]["value"] >= least,
                "features alone: better than supervised": rows["student, probe"]["value"] > max(rivals),
                "with labels: share of the teacher's": rows["with labels, probe"]["value"] >= least,
                "with labels: better than supervised": rows["with labels, probe"]["value"] > max(rivals),
            },
        },
    )


def train(work: Path, epochs: int, seed: int) -> dict[str, Path]:
    """The run directories, made where they are not there yet."""
    import edgefm

    settings = (f"distill.epochs={epochs}", *SETTINGS)
    runs = {
        "teacher, probe": work / "teacher-probe",
        "student, probe": work / "student-probe",
        "with labels": work / "with-labels",
        "with labels, probe": work / "with-labels-probe",
        "supervised": work / "supervised",
        "supervised, probe": work / "supervised-probe",
    }
    student = work / "student"
    common: dict[str, Any] = {"student": STUDENT, "tap": TAP, "seed": seed, "resume": True}
    if not runs["with labels"].exists():
        edgefm.distill(TEACHER, LABELS, runs["with labels"], set=(*settings, *LABELS_TOO), **common)
    if not student.exists():
        edgefm.distill(TEACHER, LABELS, student, set=settings, **common)
    if not runs["supervised"].exists():
        edgefm.distill(TEACHER, LABELS, runs["supervised"], set=settings, without_teacher=True, **common)
    if not runs["teacher, probe"].exists():
        edgefm.adapt(TEACHER, LABELS, runs["teacher, probe"], method="linear", tap=TAP, seed=seed)
    learned = {"student": student, "with labels": runs["with labels"], "supervised": runs["supervised"]}
    for name, source in ((f"{name}, probe", source) for name, source in learned.items()):
        if not runs[name].exists():
            edgefm.adapt(source, LABELS, runs[name], method="linear", seed=seed)
    return runs


def counts() -> dict[str, int]:
    """Images of each split."""
    with open(LABELS, newline="") as file:
        return dict(Counter(row["split"] for row in csv.DictReader(file)))


def answers(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The decisions on the test images and their labels, int64 `[N]` each."""
    import torch

    from edgefm.data import load_data
    from edgefm.models import load_model
    from edgefm.runtime.decide import decisions, probabilities
    from edgefm.spec.recipe import DataRecipe
    from edgefm.train.images import Images
    from edgefm.train.predict import all_outputs, predict

    model = load_model(run)
    dataset = load_data(LABELS, DataRecipe(), labels=model.task.labels)
    test = dataset.of("test")
    outputs = all_outputs(
        predict(model.module, Images(dataset), test, model.preprocess, device=torch.device("cpu"), precision="fp32")
    )
    assert outputs.logits is not None
    assert dataset.labels is not None
    decided = decisions(probabilities(outputs.logits.numpy(), model.task), model.task)
    return np.asarray(decided), dataset.labels[test]


def statement(decided: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, Any]:
    """Balanced accuracy of each, and of both students' probes less the others, with 95 % intervals by image."""
    from edgefm.verify.intervals import bootstrap_intervals

    classes = np.unique(truth)

    def balanced(rows: np.ndarray) -> dict[str, float]:
        there = [truth[rows] == each for each in classes]
        found = {
            name: float(np.mean([(answer[rows][of] == each).mean() for each, of in zip(classes, there) if of.any()]))
            for name, answer in decided.items()
        }
        pairs = [(mine, name) for mine in ("student, probe", "with labels, probe") for name in found if name != mine]
        return found | {f"{mine} less {name}": found[mine] - found[name] for mine, name in pairs}

    intervals = bootstrap_intervals(balanced, np.arange(len(truth)))
    rounded = {name: {key: round(float(each), 4) for key, each in value._asdict().items()} for name, value in intervals.items()}
    return {
        "balanced_accuracy": {name: value for name, value in rounded.items() if " less " not in name},
        "differences": {name: value for name, value in rounded.items() if " less " in name},
    }


if __name__ == "__main__":
    main()
