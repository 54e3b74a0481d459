"""How long `edgefm verify` takes with every check but robustness, and how much memory: on 1,200 images and on a quarter.

Not what it finds: the ViT-Ti has random weights, and its verdict means nothing. Not robustness (`robustness.py`).

    python benchmarks/verify_time.py [--work runs/verify_time] [--images 1200] [--side 224] [--seed 0]

Every run is a process of its own: bundle and generated PNG files with labels, patients and scanners in, all variants, the gate,
subgroups, the list of cases and the report out; once with the variants as this machine runs them and once with --parity all,
under every cap, too, for those images that `edgefm/verify/older.py` asks. `fixed_seconds` and `per_image_ms` are the line
through both numbers of images; `processor_seconds` say what a busy machine's clock cannot. `peak_mib` is that of the largest
process. Targets: 120 s on two cores, and a peak that does not grow with the images.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import measure

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = "vit_tiny_patch16_224"
TARGET_SECONDS, GROWTH = 120.0, 1.05
CODES = (0, 3, 4)  # the weights are random: the gate may say no, and int8 under a cap may err by more than a trained one's
CHECKS = {"as this machine runs them": "variants", "under every cap, too": "all"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "verify_time")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = options.work / f"{options.side}-{options.seed}"
    work.mkdir(parents=True, exist_ok=True)
    # made in processes of their own: the kernel counts this process's peak as its children's
    spawn = multiprocessing.get_context("spawn")
    for make, out in ((make_bundle, work / "vit.efm"), (make_images, work / f"images-{options.images}")):
        if not out.exists():
            child = spawn.Process(target=make, args=(out, options))
            child.start()
            child.join()
            if child.exitcode:
                raise SystemExit(f"{out} was not made")
    quarter = options.images // 4
    found: dict[str, Any] = {}
    for name, parity in CHECKS.items():
        few, many = (run(work, options.images, count, parity) for count in (quarter, options.images))
        per_image = (many["seconds"] - few["seconds"]) / (options.images - quarter)
        found[name] = {
            str(quarter): few,
            str(options.images): many,
            "per_image_ms": round(per_image * 1e3, 2),
            "fixed_seconds": round(many["seconds"] - per_image * options.images, 1),
            "within_target": many["seconds"] <= TARGET_SECONDS,
            "memory_grows": many["peak_mib"] > GROWTH * few["peak_mib"],
        }
    names = {"architecture": ARCHITECTURE, "side": options.side, "seed": options.seed, "target_seconds": TARGET_SECONDS}
    measure.save("verify_time", names | {"threads": len(os.sched_getaffinity(0)), "checks": found})


def make_bundle(out: Path, options: argparse.Namespace) -> None:
    """A ViT-Ti with random weights, and a head that tells pictures apart, in fp32 and int8 for both engines."""
    import torch

    import edgefm
    from edgefm.data.phantom import LABELS
    from edgefm.models import build_student
    from edgefm.spec.preprocess import Preprocess
    from edgefm.spec.task import make_task

    model = build_student(ARCHITECTURE, task=make_task("binary", LABELS), preprocess=Preprocess(), seed=options.seed)
    torch.manual_seed(options.seed)
    head = next(value for key, value in model.module.named_parameters() if key.endswith("head.weight"))
    torch.nn.init.normal_(head, std=1.0)
    data = f"phantom:opacity?n=200&size={options.side}&seed={options.seed + 1}"
    edgefm.quantize(model, data, out, max_drop=1.0, max_flips=1.0, set=("quantize.calibration_images=16",))


def make_images(out: Path, options: argparse.Namespace) -> None:
    """PNG files of the phantom, and two CSV files: of all of them, and of the first quarter."""
    from PIL import Image

    from edgefm.data import load_data

    images = load_data(f"phantom:opacity?n={options.images}&size={options.side}&seed={options.seed}")
    assert images.labels is not None
    assert images.patients is not None
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    rows = []
    for index in range(len(images)):
        Image.fromarray(images.pixels(index)).save(partial / f"{index}.png")
        label, group = images.task.labels[images.labels[index]], images.groups["scanner"][index]
        rows.append((f"{index}.png", label, images.patients[index], group, "test"))
    for count in (options.images // 4, options.images):
        with open(partial / f"{count}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("file", "label", "patient", "scanner", "split"), *rows[:count]])
    partial.rename(out)


def run(work: Path, images: int, count: int, parity: str) -> dict[str, float]:
    """One `edgefm verify` on the first `count` images: seconds, processor seconds, and MiB of its largest process."""
    (work / "gate.yaml").write_text("{}\n")
    words = ["verify", work / "vit.efm", "-d", work / f"images-{images}" / f"{count}.csv", "--gate", work / "gate.yaml"]
    words += ["--parity", parity, "--by", "scanner", "--with-cases", "-o", work / "out", "--force"]
    command = [sys.executable, "-m", "edgefm", *map(str, words)]
    done = measure.process(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, codes=CODES)
    print(f"{count} images, parity {parity}: {done.seconds:.1f} s, {done.peak_mib:.0f} MiB", file=sys.stderr, flush=True)
    seconds, processor = round(done.seconds, 1), round(done.processor, 1)
    return {"seconds": seconds, "processor_seconds": processor, "peak_mib": round(done.peak_mib)}


if __name__ == "__main__":
    main()
