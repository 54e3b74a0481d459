"""Train a toy whole, and again with `kill -9` after so many steps, time after time. Not a test: test_checkpoint.py starts it.

    python -m tests.train.killed FOLDER 3,1,6

Every run is a process of its own, forked from this one, which has done no arithmetic yet. A run tells each step through a
pipe; the kill comes from outside while it goes on: in a step, between two, or while a checkpoint is written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # the first optimizer imports it; once for all runs is enough
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from edgefm.data import load_data
from edgefm.models.loaded import Outputs
from edgefm.spec.recipe import DataRecipe, TrainRecipe
from edgefm.train import checkpoint, images
from edgefm.train.checkpoint import FILE, STATE, snapshot
from edgefm.train.images import Images
from edgefm.train.loop import Training, fit
from edgefm.train.objective import Batch, LabelObjective
from edgefm.train.progress import Report
from edgefm.train.validation import validate_labels

from .toys import GREY, Toy

CPU = torch.device("cpu")
RECIPE = TrainRecipe(epochs=4, views=2, batch=4, accumulate=2, lr=0.02)  # seven steps an epoch, 13 calls
THREADS = 3


class Told:
    """An objective that tells each of its calls through a pipe: how many threads of images there are."""

    def __init__(self, inner: LabelObjective, pipe: int) -> None:
        self.inner, self.pipe = inner, pipe
        self.prepare = inner.prepare

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        os.write(self.pipe, bytes([threading.active_count() - 1]))
        return self.inner(outputs, batch)


def train(data: Path, folder: Path, pipe: int) -> None:
    """One process: from the last checkpoint to the end."""
    torch.set_num_threads(1)
    checkpoint.EVERY = 0.0
    images.usable_threads = lambda: THREADS
    dataset = load_data(data, DataRecipe())
    assert dataset.labels is not None
    rows, val = dataset.of("train"), np.flatnonzero(dataset.splits == "val")
    store, module = Images(dataset, keep=2000), Toy()  # a few are kept, the others decoded again
    training = Training(
        module=module,
        images=store,
        train=rows,
        spec=GREY,
        objective=Told(LabelObjective(dataset.labels, rows, "binary", 2, CPU), pipe),
        validate=validate_labels(store, val, dataset.labels, GREY, dataset.task, CPU),
        recipe=RECIPE,
        seed=7,
        device=CPU,
    )
    fit(training, folder, identity={}, resume=True, report=Report())
    save_file(snapshot(module), folder / "end.safetensors")


def started(data: Path, folder: Path) -> tuple[int, int]:
    """A new process that trains; its id, and the pipe it tells its steps through."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            train(data, folder, writer)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    return child, reader


def followed(data: Path, folder: Path, calls: int | None) -> tuple[bool, int]:
    """A run to its end, or killed after so many calls of its objective. Whether it was, and the most threads it had."""
    child, reader = started(data, folder)
    told, threads = 0, 0
    while told != calls and (byte := os.read(reader, 1)):
        told, threads = told + 1, max(threads, byte[0])
    killed = told == calls
    if killed:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reader)
    assert killed or status == 0
    return killed, threads


def within_an_epoch(folder: Path) -> bool:
    """Whether the checkpoint that a killed run left is of mid-epoch."""
    path = folder / STATE / FILE
    if not path.exists():
        return False
    with safe_open(path, framework="pt") as file:
        return bool(json.loads(file.metadata()["state"])["sums"])


def main(root: Path, moments: list[int]) -> None:
    data, whole, killed = (root / name for name in ("data", "whole", "killed"))
    for folder in (data, whole, killed):
        folder.mkdir()
    rng, lines = np.random.default_rng(0), ["file,label,split"]
    for number in range(36):
        pixels = rng.integers(0, 160 + 60 * (number % 2), (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(data / f"{number}.png")
        split = "train" if number < 26 else ("val", "calibrate")[number // 2 % 2]
        lines.append(f"{number}.png,{('dark', 'bright')[number % 2]},{split}")
    (data / "labels.csv").write_text("\n".join(lines) + "\n")
    _, threads = followed(data / "labels.csv", whole, None)
    count = within = 0
    for moment in moments:
        stopped, most = followed(data / "labels.csv", killed, moment)
        count, threads, within = count + stopped, max(threads, most), within + within_an_epoch(killed)
    followed(data / "labels.csv", killed, None)
    print(json.dumps({"killed": count, "threads": threads, "within an epoch": within}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2].split(",")])
