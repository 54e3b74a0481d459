"""The native engine's int8 on a vision transformer that learned chest X-rays, against torch in fp32: does it decide the same?

Not a timing (`native_vit.py`), and no good model: a ViT-Ti at 112 pixels, trained on labels from random weights, as much as
two cores can in half an hour. Both native variants also run held to every older instruction set (EDGEFM_ISA), on all images:
how far their probabilities move from those of this processor's own.

    python benchmarks/native_accuracy.py [--work runs/native_accuracy] [--epochs 16] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
from main_path import LABELS, ROOT, point, test_images, variant_answers
from measure import save
from vit_pneumoniamnist import train

from edgefm.runtime.instructions import caps

SIDE = 112
AUC, EQUAL, SENSITIVITY = 0.002, 0.995, 0.005  # largest drop, least share of equal decisions, largest change
APART = {"native-fp32": 1e-3, "native-int8": 0.0}  # of probabilities, between instruction sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "native_accuracy")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = options.work.absolute() / f"{options.epochs}-epochs-seed-{options.seed}"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "vit").exists():
        train(work / "vit", LABELS, options.epochs, options.seed, name=f"vit_tiny at {SIDE} pixels", batch=32, img_size=SIDE)
    save("native_accuracy", {"epochs": options.epochs, "seed": options.seed} | compared(work / "vit", work / "vit.efm"))


def compared(run: Path, bundle: Path) -> dict[str, Any]:
    """Every variant on the test images: AUC, sensitivity, specificity, and what it decides unlike torch in fp32."""
    import edgefm
    from edgefm.errors import GateRefused

    with contextlib.suppress(GateRefused):  # the bundle is there and says so itself; `refused` is part of the result
        edgefm.quantize(run, LABELS, bundle, force=True)
    with edgefm.open_bundle(bundle) as opened:
        manifest = opened.manifest
    files, truth, _ = test_images()
    chances = {each.name: variant_answers(bundle, each.name, files) for each in manifest.variants}
    chances["torch"] = torch_answers(run, files, manifest.task.temperature)
    threshold = manifest.task.thresholds[0]
    rows = {name: point(each, truth, threshold) for name, each in chances.items()}
    equal = {
        name: round(float(((each >= threshold) == (chances["torch"] >= threshold)).mean()), 5) for name, each in chances.items()
    }
    found = {"images": len(truth), "refused": manifest.refused, "threshold": threshold, "rows": rows, "equal_decisions": equal}
    apart = {name: between_sets(bundle, name, files, chances[name], threshold) for name in ("native-fp32", "native-int8")}
    met = holds(rows["torch"], rows["native-int8"], equal["native-int8"])
    met |= {f"{name} on older instruction sets": largest(of) <= APART[name] for name, of in apart.items()}
    return found | {"older_instruction_sets": apart, "holds": met}


def between_sets(bundle: Path, variant: str, files: list[Path], own: np.ndarray, threshold: float) -> dict[str, Any]:
    """By cap, against `own`: the largest difference of a probability, its 99th percentile, and the changed decisions."""
    found = {}
    for cap in caps():
        os.environ["EDGEFM_ISA"] = str(cap.own)  # of the process to come, which reads it as it loads the kernels
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            other = pool.apply(variant_answers, (bundle, variant, files))
        del os.environ["EDGEFM_ISA"]
        difference = np.abs(other - own)
        found[str(cap.own)] = {
            "largest": float(difference.max()),
            "p99": float(np.quantile(difference, 0.99)),
            "flips": int(((other >= threshold) != (own >= threshold)).sum()),
        }
    return found


def largest(found: dict[str, Any]) -> float:
    return max((of["largest"] for of in found.values()), default=0.0)


def torch_answers(run: Path, files: list[Path], temperature: float) -> np.ndarray:
    """The torch model's probability of pneumonia, float64 `[N]`, on images that the runtime prepared."""
    import torch

    from edgefm.models import load_model
    from edgefm.runtime.decode import decode
    from edgefm.runtime.preprocess import Preprocessor

    model = load_model(run)
    prepare, positive = Preprocessor(model.preprocess, threads=2), model.task.labels.index("pneumonia")
    with torch.no_grad():
        logits = [model.module(torch.from_numpy(prepare(decode(file)))[None]).logits for file in files]
    chances = torch.softmax(torch.cat(logits).double() / temperature, dim=1)
    return chances[:, positive].numpy()


def holds(torch: dict[str, float], native: dict[str, float], equal: float) -> dict[str, bool]:
    return {
        "auc": torch["auc"] - native["auc"] <= AUC,
        "equal decisions": equal >= EQUAL,
        "sensitivity": abs(torch["sensitivity"] - native["sensitivity"]) <= SENSITIVITY,
    }


if __name__ == "__main__":
    main()
