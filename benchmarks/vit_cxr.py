"""A ViT-S teacher and ViT-Ti students at 224 px on chest X-rays, from random weights: what the teacher adds, what int8 costs.

Not the main path's small convolutions (`main_path.py`). `train` needs a GPU for these epochs; `prove` does not.

    python benchmarks/vit_cxr.py train [--work runs/vit_cxr] [--device cuda] [--seeds 0 1 2] [--epochs 80]
    python benchmarks/vit_cxr.py prove [--work runs/vit_cxr] [--int8-seeds 0 1]

The ViT-S learns from labels and from the DenseNet of the test data. Each ViT-Ti learns once from labels and the ViT-S, and
once from labels alone: same recipe, views, order and number of updates. Runs train side by side and go on where they were.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from main_path import LABELS, ROOT, TEACHER, difference, point, test_images
from main_path_int8 import measure
from measure import save

COMMON = ("distill.batch=64", "distill.lr=0.0005", "distill.warmup=0.1", "distill.views=20")
LOSSES = {
    "teacher": ("distill.losses.tokens=0.0", "distill.losses.labels=0.5"),
    "distilled": ("distill.losses.tokens=0.5", "distill.losses.labels=0.5"),
    "without teacher": (),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["train", "prove"])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "vit_cxr")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--int8-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--epochs", type=int, default=80)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.step == "train":
        students = [("without teacher", seed) for seed in options.seeds]
        side_by_side([("teacher", 0), *students], options)
        side_by_side([("distilled", seed) for seed in options.seeds], options)
    else:
        save("vit_cxr", proof(options))


def folder(work: Path, name: str, seed: int) -> Path:
    return work / f"{name.replace(' ', '-')}-{seed}"


def side_by_side(runs: list[tuple[str, int]], options: argparse.Namespace) -> None:
    """Train what is not there yet, all at once; the answers to the test images and the seconds stand beside each run."""
    children = []
    for name, seed in runs:
        run = folder(options.work, name, seed)
        if run.with_suffix(".json").exists():
            continue
        source, student = (TEACHER, "small") if name == "teacher" else (folder(options.work, "teacher", 0), "tiny")
        source = TEACHER if name == "without teacher" else source  # only its preprocessing and classes
        arguments = {
            "teacher": str(source),
            "out": str(run),
            "student": student,
            "seed": seed,
            "without_teacher": name == "without teacher",
            "set": [f"distill.epochs={options.epochs}", *COMMON, *LOSSES[name]],
            "device": options.device,
            "cache": None if name == "without teacher" else str(options.work / f"cache-{name}-{seed}"),
        }
        command = [sys.executable, "-c", f"import vit_cxr; vit_cxr.train({arguments!r})"]
        children.append((name, seed, subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})))
        print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}", flush=True)
    failed = [f"{name}, seed {seed}" for name, seed, child in children if child.wait()]
    if failed:
        raise SystemExit(f"did not finish: {'; '.join(failed)}")


def train(arguments: dict[str, Any]) -> None:
    """One run, in a process of its own."""
    import torch

    import edgefm

    run, start = Path(arguments["out"]), time.perf_counter()
    if not run.exists():
        edgefm.distill(data=str(LABELS), resume=True, **arguments)
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cuda = arguments["device"].startswith("cuda")
    found = {
        "seconds": round(time.perf_counter() - start, 1),
        "epochs": len(history),
        "images_per_s": round(float(np.median([line["images_per_s"] for line in history])), 1),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch": torch.__version__,
        "settings": arguments["set"],
        "probability": [round(float(each), 6) for each in answers(run, arguments["device"])],
    }
    run.with_suffix(".json").write_text(json.dumps(found) + "\n")


def answers(run: Path, device: str) -> np.ndarray:
    """The probability of pneumonia of the test images, float64 `[N]`, by torch in fp32."""
    import torch

    from edgefm.data import load_data
    from edgefm.models import load_model
    from edgefm.runtime.decide import probabilities
    from edgefm.spec.recipe import DataRecipe
    from edgefm.train.images import Images
    from edgefm.train.precision import to_device
    from edgefm.train.predict import all_outputs, predict

    model = load_model(run)
    dataset = load_data(LABELS, DataRecipe(), labels=model.task.labels)
    place = torch.device(device)
    to_device(model.module, place)
    asked = predict(model.module, Images(dataset), dataset.of("test"), model.preprocess, device=place, precision="fp32")
    logits = all_outputs(asked).logits
    assert logits is not None
    return np.asarray(probabilities(logits.cpu().numpy(), model.task))[:, list(model.task.labels).index("pneumonia")]


def proof(options: argparse.Namespace) -> dict[str, Any]:
    """AUC and decisions of every run, paired differences by patient, and int8 of the students that are here whole."""
    files, truth, patients = test_images()
    runs: dict[str, dict[str, Any]] = {}
    for name in LOSSES:
        for seed in [0] if name == "teacher" else options.seeds:
            runs.setdefault(name, {})[str(seed)] = json.loads(folder(options.work, name, seed).with_suffix(".json").read_text())
    found = {name: {seed: np.array(run.pop("probability")) for seed, run in each.items()} for name, each in runs.items()}
    pairs = [("distilled", "without teacher"), ("distilled", "teacher")]
    differences = {
        f"{one} - {other}": difference(list(found[one].values()), list(found[other].values()), truth, patients)
        for one, other in pairs
    }
    int8 = {}
    for seed in options.int8_seeds:
        run = folder(options.work, "distilled", seed)
        with contextlib.redirect_stdout(sys.stderr):
            int8[str(seed)] = measure(run, run.with_suffix(".int8.efm"), files, truth, patients)
    return {
        "images": len(truth),
        "arms": {name: {seed: point(each, truth) for seed, each in answers.items()} for name, answers in found.items()},
        "auc_differences": differences,
        "training": runs,
        "int8": int8,
    }


if __name__ == "__main__":
    main()
