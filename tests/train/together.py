"""Trainings of toys in the processes that torchrun starts. Not a test: test_processes.py starts it.

torchrun --standalone --nproc_per_node 2 -m tests.train.together FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed, nn

from edgefm.runtime import cpu
from edgefm.spec.recipe import TrainRecipe
from edgefm.train import checkpoint, loop
from edgefm.train.checkpoint import snapshot
from edgefm.train.processes import Processes, join

from .runs import CPU, Stop, run, training_of
from .toys import Plain, Toy

# 13 images in batches of 4 make 4, 4, 5: shares of 3 and 2. 14 make 4, 4, 4, 2: the second process has none of the last.
RUNS = {
    "odd": (13, TrainRecipe(epochs=3, views=2, batch=4, lr=0.02)),
    "idle": (14, TrainRecipe(epochs=3, views=2, batch=4, lr=0.02)),
    "pieces": (13, TrainRecipe(epochs=3, views=2, batch=13, accumulate=2, lr=0.02)),
}


def same_everywhere(processes: Processes, module: nn.Module) -> bool:
    """Whether this process's weights are the main one's, bit for bit."""
    main = processes.from_main(snapshot(module))
    return all(torch.equal(value, main[name]) for name, value in snapshot(module).items())


def forbidden(*arguments: object) -> None:
    raise AssertionError("only the main process writes")


def main(root: Path) -> None:
    torch.set_num_threads(1)
    cpu.cpu_features = dict
    processes = join(CPU)
    assert (processes.count, processes.rank) == (distributed.get_world_size(), distributed.get_rank())
    if not processes.main:
        checkpoint.write_atomically = loop.write_atomically = forbidden
    same = {}
    for name, (train, recipe) in RUNS.items():
        module = Plain(seed=processes.rank)  # what is not the main process's is replaced
        with processes.run_folder(root / name) as folder:
            run(training_of(module, train=train, recipe=recipe, processes=processes), folder)
            same[name] = same_everywhere(processes, module)
            if processes.main:
                save_file(snapshot(module), folder / "end.safetensors")
        assert (root / name / "metrics.jsonl").exists()
    same["stopped"] = resumed(root / "stopped", processes)
    told = [None] * distributed.get_world_size()
    distributed.all_gather_object(told, {"rank": distributed.get_rank(), "same": same})
    if processes.main:
        print(json.dumps(told))


def resumed(root: Path, processes: Processes) -> bool:
    """A model with BatchNorm, stopped in mid-epoch and resumed, ends as without."""
    checkpoint.EVERY = 0.0
    recipe, ends = TrainRecipe(epochs=2, views=2, batch=4, lr=0.02), []
    for stop in (None, 5):
        module, folder = Toy(), root / str(stop)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            run(training_of(module, train=14, recipe=recipe, processes=processes, stop=stop), folder)
        except Stop:
            processes.wait()
            module = Toy(seed=5)
            run(training_of(module, train=14, recipe=recipe, processes=processes), folder, resume=True)
        assert same_everywhere(processes, module)
        ends.append(snapshot(module))
    return all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
