"""A ViT-Ti at 28 pixels, patch 4, on PneumoniaMNIST: its accuracy in fp32 and in int8, with intervals.

Not distillation (`main_path.py`): it learns from the labels. A published figure to lay beside it: BitMedViT, accuracy 88.0.

    python benchmarks/vit_pneumoniamnist.py [--work runs/vit_pneumoniamnist] [--epochs 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from measure import save

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEFM_TEST_DATA", ROOT.parent / "shared" / "data")) / "pneumoniamnist" / "pneumoniamnist.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "vit_pneumoniamnist")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = options.work.absolute() / f"{options.epochs}-epochs-seed-{options.seed}"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "vit").exists():
        train(work / "vit", DATA, options.epochs, options.seed, name="vit_tiny, patch 4", batch=64, img_size=28, patch_size=4)
    found = quantized(work / "vit", work / "vit.efm")
    save("vit_pneumoniamnist", {"epochs": options.epochs, "seed": options.seed, "published_bitmedvit_accuracy": 0.88} | found)


def train(out: Path, data: Path, epochs: int, seed: int, *, name: str, batch: int, **size: int) -> None:
    """A grey ViT-Ti from random weights, on the labels of two classes. `size`: `img_size`, and what else of timm's."""
    import msgspec
    import timm
    import torch

    from edgefm.data import check_images, load_data
    from edgefm.models.encoder import TimmEncoder
    from edgefm.models.loaded import LoadedModel
    from edgefm.models.weights import state_sha256
    from edgefm.spec.preprocess import Preprocess
    from edgefm.spec.recipe import Recipe
    from edgefm.train.supervised import fit_supervised

    dataset = check_images(load_data(data, Recipe().data))
    arguments = {"num_classes": 2, "in_chans": 1, **size}
    side = size["img_size"]
    torch.manual_seed(seed)
    net = timm.create_model("vit_tiny_patch16_224", **arguments)
    model = LoadedModel(
        module=TimmEncoder(net, architecture="vit_tiny_patch16_224", arguments=arguments).eval(),
        preprocess=Preprocess(channels=1, size=side, resize_to=side, mean=(0.5,), std=(0.25,)),
        task=dataset.task,
        name=name,
        licence="Apache-2.0",
        sha256=state_sha256(net.state_dict()),
    )
    recipe = Recipe()
    recipe = msgspec.structs.replace(recipe, distill=msgspec.structs.replace(recipe.distill, batch=batch))
    fit_supervised(model, dataset, out, epochs=epochs, seed=seed, recipe=recipe, resume=True, report=print)


def quantized(run: Path, bundle: Path) -> dict[str, Any]:
    """Every variant on the official test split: accuracy and AUC with 95 % intervals, and flips against fp32."""
    import edgefm
    from edgefm.errors import GateRefused
    from edgefm.verify.intervals import bootstrap_intervals
    from edgefm.verify.metrics import auc

    with contextlib.suppress(GateRefused):  # the bundle is there and says so itself; `refused` is part of the result
        edgefm.quantize(run, DATA, bundle, force=True)
    with np.load(DATA) as archive:
        images, truth = archive["test_images"], archive["test_labels"][:, 0] == 1
    with edgefm.open_bundle(bundle) as opened:
        manifest = opened.manifest
    answers = {}
    for variant in manifest.variants:
        with edgefm.Session(bundle, variant=variant.name, allow_refused=True) as session:
            chances = [list(answer.probabilities.values())[1] for answer in session.stream(list(images))]
        answers[variant.name] = np.array(chances)
    threshold = manifest.task.thresholds[0]
    reference = answers["onnx-fp32"] >= threshold

    def metrics(rows: np.ndarray) -> dict[str, float]:
        found = {}
        for name, chances in answers.items():
            right = (chances[rows] >= threshold) == truth[rows]
            found |= {f"{name} accuracy": float(right.mean()), f"{name} auc": auc(chances[rows], truth[rows])}
        return found

    intervals = bootstrap_intervals(metrics, np.arange(len(truth)))
    flips = {name: int(((chances >= threshold) != reference).sum()) for name, chances in answers.items()}
    rounded = {name: {key: round(float(each), 4) for key, each in value._asdict().items()} for name, value in intervals.items()}
    return {"refused": manifest.refused, "images": len(truth), "threshold": threshold, "flips": flips, "metrics": rounded}


if __name__ == "__main__":
    main()
