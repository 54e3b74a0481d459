"""`adapt --method qlora` of a ViT-g shaped model (random weights), against PEFT, bitsandbytes and accelerate.

Images a second and peak memory, not accuracy (`lora_cxr.py`): the images are noise. Same recipe, batches, views and number of
updates on both sides.

    python benchmarks/gpu_adapt.py [--batch 32] [--images 768] [--checkpointing] [--repeats 2] [--work runs/gpu_adapt]
    python benchmarks/gpu_adapt.py --quick --device cpu      (a tiny model: does it run)

Contenders take turns, each run in a process of its own; the result is written after each, and one that fails says why.
images/s: the fastest epoch of a run, the first left out, and of these the median over runs. Peak memory: what torch's allocator
held at most, until training ends; on a processor the process's. What follows training (merging, saving) neither side does.
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


def main() -> int:
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
    if options.device.startswith("cuda") and not cards():
        sys.exit("there is no NVIDIA card here: --quick --device cpu is a dry run")
    if options.quick:
        options.images, options.batch, options.epochs, options.repeats = 24, 8, 2, 1
    work = options.work.absolute()
    noise(work / "images", options.images, 28 if options.quick else 224)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    failed: dict[str, str] = {}
    limit = {} if options.quick else bound(options)
    for number in range(options.repeats):
        for name in CONTENDERS if number % 2 == 0 else reversed(CONTENDERS):
            if name in failed:
                continue
            ran = one_run(name, options)
            if isinstance(ran, str):
                failed[name] = ran
            else:
                runs[name].append(ran)
            print(name, ran, file=sys.stderr, flush=True)
            found = compared(runs) | {"failed": failed, "settings": settings(vars(options)), "targets": TARGETS}
            if options.quick:
                print(json.dumps(found, indent=1))
            elif any(runs.values()):
                save("gpu_adapt", found | {"bound": shared(limit, runs)})
    return int(bool(failed))


def cards() -> bool:
    import torch

    return torch.cuda.is_available()


def one_run(name: str, options: argparse.Namespace) -> dict[str, Any] | str:
    """What a contender's process found, or the last line that it said."""
    arguments = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    command = [sys.executable, "-c", f"import gpu_adapt; gpu_adapt.contender({name!r}, {arguments!r})"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    sys.stderr.write(child.stderr)
    if child.returncode:
        return (child.stderr.strip().splitlines() or [f"exit code {child.returncode}, and it said nothing"])[-1]
    return json.loads(child.stdout.splitlines()[-1])


def compared(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Each contender's medians, and EdgeFM's images/s over the peer's and bytes over the peer's: None until both have run."""
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in ("images_per_s", "peak_bytes")}
        for name, each in runs.items()
        if each
    }
    found: dict[str, Any] = {"runs": runs, "medians": medians, "times_as_fast": None, "memory_ratio": None}
    if len(medians) == len(CONTENDERS):
        mine, peer = (medians[name] for name in CONTENDERS)
        found["times_as_fast"] = round(mine["images_per_s"] / peer["images_per_s"], 3)
        found["memory_ratio"] = round(mine["peak_bytes"] / peer["peak_bytes"], 3)
    return found


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


def model(quick: bool, device: str) -> Any:
    """timm's ViT-g of random weights, without a classifier, on the processor; a card draws 1.1 billion numbers faster."""
    import timm
    import torch

    from edgefm.spec.preprocess import Preprocess

    torch.manual_seed(0)
    stated = TINY if quick else VIT_G
    with torch.device(device):
        net = timm.create_model("vit_giant_patch14_dinov2", num_classes=0, **stated).eval()
    net = net.to("cpu")
    net.preprocess = Preprocess(size=stated["img_size"], resize_to=stated["img_size"])
    return net


def contender(name: str, options: dict[str, Any]) -> None:
    """One run; its last line is JSON."""
    import torch

    from edgefm.settings import load_recipe

    recipe, data = load_recipe(None, settings(options)), Path(options["work"]) / "images" / "labels.csv"
    cuda = options["device"].startswith("cuda")
    net = model(options["quick"], options["device"])
    reset(cuda)
    if name == "EdgeFM":
        from edgefm.adapt import adapt
        from edgefm.adapt import lora as method

        peaks: list[int] = []
        method._finish = lambda *_: peaks.append(peak(cuda))  # merges and saves nothing, as the peer does
        out = Path(options["work"]) / "run"
        adapt(net, data, out, method="qlora", recipe=recipe, device=options["device"], force=True)
        history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found = {"images_per_s": max(line["images_per_s"] for line in history[1:]), "peak_bytes": peaks[0]}
    else:
        from peft_loop import peft_run

        run = peft_run(net, data, recipe, method="qlora", device=options["device"], accelerate=True)
        found = {"images_per_s": max(run["images"] / each for each in run["seconds"][1:]), "peak_bytes": peak(cuda)}
    found |= {"device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__}
    print(json.dumps(found))


def reset(cuda: bool) -> None:
    import torch

    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(cuda: bool) -> int:
    """Bytes."""
    import torch

    return torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bound(options: argparse.Namespace) -> dict[str, Any]:
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
    }


def shared(bound: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The bound, and the share of it that each contender reaches."""
    if not bound:
        return {}
    best = {name: max(run["images_per_s"] for run in each) for name, each in runs.items() if each}
    return bound | {"share": {name: round(each / bound["images_per_s"], 3) for name, each in best.items()}}


if __name__ == "__main__":
    sys.exit(main())
