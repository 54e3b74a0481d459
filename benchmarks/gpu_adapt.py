"""`adapt --method qlora` of a ViT-g shaped model (random weights), against PEFT, bitsandbytes and accelerate.

Images a second and peak memory, not accuracy (`lora_cxr.py`): the images are noise. Same recipe, batches, views and number of
updates on both sides.

    python benchmarks/gpu_adapt.py [--batch 32] [--images 768] [--checkpointing] [--repeats 2] [--work runs/gpu_adapt]
    python benchmarks/gpu_adapt.py --quick --device cpu      (a tiny model: does it run)

Contenders take turns, each run in a process of its own. images/s: the fastest epoch of a run, the first left out, and of these
the median over runs. Peak memory: what torch's allocator held at most, until training ends; on a processor the process's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, save

VIT_G = {"img_size": 224, "init_values": 1e-5}  # timm's vit_giant_patch14_dinov2: 40 blocks, 1,536 wide, packed SwiGLU
TINY = {"img_size": 28, "init_values": 1e-5, "embed_dim": 96, "depth": 2, "num_heads": 2}
CONTENDERS = ("EdgeFM", "PEFT")
TARGETS = {"images_per_s": 1.3, "memory": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--work", type=Path, default=RESULTS.parent.parent / "runs" / "gpu_adapt")
    options = parser.parse_args()
    if options.quick:
        options.images, options.batch, options.epochs, options.repeats = 24, 8, 2, 1
    work = options.work.absolute()
    noise(work / "images", options.images, 28 if options.quick else 224)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for number in range(options.repeats):
        for name in CONTENDERS if number % 2 == 0 else reversed(CONTENDERS):
            arguments = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
            command = [sys.executable, "-c", f"import gpu_adapt; gpu_adapt.contender({name!r}, {arguments!r})"]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            child = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
            runs[name].append(json.loads(child.stdout.splitlines()[-1]))
            print(name, runs[name][-1], file=sys.stderr, flush=True)
    found = compared(runs) | {"settings": settings(vars(options)), "targets": TARGETS}
    if options.quick:
        print(json.dumps(found, indent=1))
    else:
        save("gpu_adapt", found | {"bound": bound(options, runs)})


def compared(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Each contender's medians, and EdgeFM's images/s over the peer's and bytes over the peer's."""
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in ("images_per_s", "peak_bytes")}
        for name, each in runs.items()
    }
    mine, peer = (medians[name] for name in CONTENDERS)
    return {
        "runs": runs,
        "medians": medians,
        "times_as_fast": round(mine["images_per_s"] / peer["images_per_s"], 3),
        "memory_ratio": round(mine["peak_bytes"] / peer["peak_bytes"], 3),
    }


def settings(options: dict[str, Any]) -> list[str]:
    return [
        f"adapt.epochs={options['epochs']}",
        f"adapt.batch={options['batch']}",
        f"adapt.checkpointing={str(options['checkpointing']).lower()}",
        "adapt.views=1",
        "adapt.lr=0.001",
        "adapt.lora.rank=16",
        "adapt.lora.dropout=0.1",
        "data.val=0",
    ]


def noise(folder: Path, count: int, side: int) -> None:
    """Random pictures of two classes, all of train."""
    from PIL import Image

    if (folder / "labels.csv").exists() and len((folder / "labels.csv").read_text().splitlines()) == count + 1:
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    rows = [f"{number}.png,{'ab'[number % 2]},train" for number in range(count)]
    (folder / "labels.csv").write_text("\n".join(["file,label,split", *rows]) + "\n")


def model(quick: bool) -> Any:
    """timm's ViT-g of random weights, without a classifier."""
    import timm
    import torch

    from edgefm.spec.preprocess import Preprocess

    torch.manual_seed(0)
    stated = TINY if quick else VIT_G
    net = timm.create_model("vit_giant_patch14_dinov2", num_classes=0, **stated).eval()
    net.preprocess = Preprocess(size=stated["img_size"], resize_to=stated["img_size"])
    return net


def contender(name: str, options: dict[str, Any]) -> None:
    """One run; its last line is JSON."""
    import torch

    from edgefm.settings import load_recipe

    recipe, data = load_recipe(None, settings(options)), Path(options["work"]) / "images" / "labels.csv"
    cuda = options["device"].startswith("cuda")
    if name == "EdgeFM":
        from edgefm.adapt import adapt
        from edgefm.adapt import lora as method

        finish = method._finish  # the peer merges and saves nothing; what that takes is no part of training
        peaks: list[int] = []
        method._finish = lambda *each: (peaks.append(peak(cuda)), finish(*each))
        out = Path(options["work"]) / "run"
        reset(cuda)
        adapt(model(options["quick"]), data, out, method="qlora", recipe=recipe, device=options["device"], force=True)
        history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found = {"images_per_s": max(line["images_per_s"] for line in history[1:]), "peak_bytes": peaks[0]}
    else:
        from peft_loop import peft_run

        reset(cuda)
        run = peft_run(model(options["quick"]), data, recipe, method="qlora", device=options["device"], accelerate=True)
        found = {"images_per_s": max(run["images"] / each for each in run["seconds"][1:]), "peak_bytes": peak(cuda)}
    found |= {"device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__}
    print(json.dumps(found))


def reset(cuda: bool) -> None:
    import torch

    if cuda:
        torch.cuda.reset_peak_memory_stats()


def peak(cuda: bool) -> int:
    """Bytes."""
    import torch

    return torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bound(options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Operations of an image over the card's measured rate: forward and the gradient of the inputs, none of the frozen weights.

    A token meets all weights of the blocks; attention itself is counted too, 4 N² D a block and pass."""
    if not options.device.startswith("cuda"):
        return {}
    from gpu_measure import Clock, rates

    tokens, width, depth = 257, 1536, 40
    weights = depth * (4 * width * width + width * 8192 + 4096 * width)
    passes = 3 if options.checkpointing else 2
    operations = passes * 2 * tokens * weights + depth * (passes + 1) * 4 * tokens * tokens * width
    measured = rates(Clock("cuda", 20))
    assert measured is not None
    best = measured.operations / operations
    return {
        "operations_per_image": operations,
        "operations_per_s": measured.operations,
        "images_per_s": round(best, 1),
        "share": {name: round(max(run["images_per_s"] for run in each) / best, 3) for name, each in runs.items()},
    }


if __name__ == "__main__":
    main()
