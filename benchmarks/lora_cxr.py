"""`adapt --method lora` of a ViT-S on chest X-rays, on the CPU, against PEFT in a plain torch loop: seconds a step and AUC.

Not what LoRA can do for a foundation model: no such weights can be had here, so the ViT-S first learns skin lesions (all
weights, a few epochs, kept in --work), and the adapters learn chest X-rays from there.

    python benchmarks/lora_cxr.py [--work runs/lora_cxr] [--seeds 0 1] [--epochs 2] [--base-epochs 3]
    python benchmarks/lora_cxr.py --quick      (a tiny model and few images: does it run)

Both sides: same base, classifier, start of the adapters, targets, rank, learning rate, batches, views and number of updates.
They take turns, each run in a process of its own. The AUCs are on the validation images; their difference has an interval from
a paired bootstrap by patient.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from main_path import DATA, LABELS, ROOT, difference
from measure import save

SKIN = DATA / "ham10000" / "labels.csv"
SIDE = 96
SETTINGS = ("adapt.batch=32", "adapt.lora.rank=16", "adapt.lr=0.001", "adapt.warmup=0.1", "adapt.views=2")
BASE = ("adapt.batch=32", "adapt.lr=0.0005", "adapt.layer_decay=1", "adapt.warmup=0.1", "adapt.views=2")
CONTENDERS = ("EdgeFM", "PEFT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "lora_cxr")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--base-epochs", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    work = options.work.absolute() / ("quick" if options.quick else f"{options.base_epochs}-base-epochs")
    work.mkdir(parents=True, exist_ok=True)
    base, data = prepare(work, options)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for number, seed in enumerate(options.seeds):
        for name in CONTENDERS if number % 2 == 0 else reversed(CONTENDERS):
            arguments = {"name": name, "base": str(base), "data": str(data), "seed": seed, "work": str(work)}
            arguments["epochs"] = options.epochs
            command = [sys.executable, "-c", f"import lora_cxr; lora_cxr.contender({arguments!r})"]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
            runs[name].append(json.loads((work / f"{name}-{seed}.json").read_text()))
            print(
                name,
                "seed",
                seed,
                f"{runs[name][-1]['seconds_a_step']:.3f} s a step",
                f"AUC {runs[name][-1]['auc']}",
                flush=True,
            )
    found = compared(runs, work, options.seeds) | {
        "settings": SETTINGS,
        "epochs": options.epochs,
        "base_epochs": options.base_epochs,
        "side": SIDE,
    }
    if options.quick:
        print(json.dumps(found, indent=1))
    else:
        save("lora_cxr", found)


def prepare(work: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """The base, a run directory, and the table of the chest X-rays; for a trial a tiny one of each."""
    import timm
    import torch
    from safetensors.torch import save_file

    import edgefm

    data, skin, size = LABELS, SKIN, {"img_size": SIDE}
    if options.quick:
        data, skin = (few(file, work / f"{file.parent.name}.csv") for file in (LABELS, SKIN))
        size = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2}
    if not (work / "base").exists():
        torch.manual_seed(0)
        net, start = timm.create_model("vit_small_patch16_224", num_classes=0, **size), work / "start"
        start.mkdir(exist_ok=True)
        cfg = {"input_size": [3, size["img_size"]] + [size["img_size"]], "fixed_input_size": True, "interpolation": "bicubic"}
        config = {"architecture": "vit_small_patch16_224", "num_classes": 0, "model_args": size, "pretrained_cfg": cfg}
        (start / "config.json").write_text(json.dumps(config))
        save_file(net.state_dict(), start / "model.safetensors")
        epochs = f"adapt.epochs={1 if options.quick else options.base_epochs}"
        edgefm.adapt(start, skin, work / "base", method="full", set=(epochs, *BASE), seed=0, resume=True)
    return work / "base", data


def few(file: Path, out: Path) -> Path:
    """A table of the first images of each split and label."""
    with open(file, newline="") as handle:
        rows = list(csv.DictReader(handle))
    counts: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        key = (row["split"], row["label"])
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= 8:
            kept.append(row | {"file": str(file.parent / row["file"])})
    with open(out, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return out


def contender(arguments: dict[str, Any]) -> None:
    """One run, in a process of its own; writes NAME-SEED.json and the probabilities beside it."""
    from edgefm.settings import load_recipe
    from edgefm.verify.metrics import auc

    name, seed, work = arguments["name"], arguments["seed"], Path(arguments["work"])
    sets = [f"adapt.epochs={arguments['epochs']}", "adapt.patience=null", *SETTINGS]
    recipe = load_recipe(None, sets, {"seed": seed})
    run = ours if name == "EdgeFM" else theirs
    found = run(arguments, recipe, work / f"{name}-{seed}")
    positive = found["labels"].index("pneumonia")
    truth, probability = found["truth"] == positive, found["val"][:, positive]
    np.savez(work / f"{name}-{seed}.npz", probability=probability, truth=truth, patients=found["patients"])
    steps = found["steps"]
    words = {
        "seconds_a_step": float(np.median([seconds / steps for seconds in found["seconds"]])),
        "images_per_s": float(np.median([found["images"] / seconds for seconds in found["seconds"]])),
        "steps": steps,
        "precision": found["precision"],
        "auc": round(float(auc(probability, truth)), 5),
    }
    (work / f"{name}-{seed}.json").write_text(json.dumps(words) + "\n")


def ours(arguments: dict[str, Any], recipe: Any, out: Path) -> dict[str, Any]:
    """The verb itself, and the answers of the merged model that it leaves."""
    from edgefm.adapt import adapt
    from edgefm.adapt.job import load_job
    from edgefm.runtime.decide import probabilities
    from edgefm.train.images import Images, parts
    from edgefm.train.predict import all_outputs, predict

    adapt(arguments["base"], arguments["data"], out, method="lora", recipe=recipe, force=True, report=print)
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    job = load_job(out, arguments["data"], recipe, tap=None, licence=None, trust_remote_code=False, device="cpu", look=False)
    asked = predict(job.model.module, Images(job.dataset), job.val, job.model.preprocess, device=job.device, precision="fp32")
    return {
        "seconds": [len(job.train) / line["images_per_s"] for line in history],
        "images": len(job.train),
        "steps": len(parts(job.train, recipe.adapt.batch)),
        "precision": json.loads((out / "evaluation.json").read_text())["precision"]["train"],
        "labels": list(job.task.labels),
        "val": probabilities(all_outputs(asked).logits.numpy(), job.task),
        "truth": job.labels[job.val],
        "patients": np.unique([job.dataset.patients[i] for i in job.val], return_inverse=True)[1],
    }


def theirs(arguments: dict[str, Any], recipe: Any, out: Path) -> dict[str, Any]:
    """PEFT in a plain torch loop."""
    from peft_loop import peft_run

    return peft_run(arguments["base"], arguments["data"], recipe, method="lora")


def compared(runs: dict[str, list[dict[str, Any]]], work: Path, seeds: list[int]) -> dict[str, Any]:
    """Ratios of seconds a step, seed by seed, and the difference of the AUCs with its interval."""
    ratios = [peer["seconds_a_step"] / mine["seconds_a_step"] for mine, peer in zip(runs["EdgeFM"], runs["PEFT"], strict=True)]
    kept = {name: [np.load(work / f"{name}-{seed}.npz") for seed in seeds] for name in CONTENDERS}
    one, other = ([each["probability"] for each in kept[name]] for name in CONTENDERS)
    truth, patients = (kept["EdgeFM"][0][name] for name in ("truth", "patients"))
    return {
        "images": len(truth),
        "runs": runs,
        "times_as_fast": {"median": round(float(np.median(ratios)), 3), "by_seed": [round(each, 3) for each in ratios]},
        "auc_difference": {"EdgeFM - PEFT": difference(one, other, truth, patients)},
    }


if __name__ == "__main__":
    main()
