"""The processes of one run, as `torchrun` or `accelerate launch` start them; else the one process there is.

Not the cutting of batches and the adding up of gradients: that is `step.py`, with what is here.

    torchrun --nproc_per_node 2 -m edgefm distill ...      two processes on this machine, which share the folder of the run
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch

from ..errors import InputError, MissingExtra
from ..partial import partial_folder

Value = TypeVar("Value")
PATIENCE = timedelta(days=7)  # one process asks a teacher for hours while the others wait; torchrun ends them if it dies


@dataclass(frozen=True)
class Processes:
    """This process among those of its run.

    Attributes:
        rank: its number, from 0; 0 is the main one, which alone reports and writes files. count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process reports and writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.from_main(None)

    def from_main(self, value: Value) -> Value:
        """The main process's `value`, in every process.

        Raises:
            InputError: another process is gone. So for all that follows.
        """
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        with _reached():
            return broadcast_object_list([value])[0]  # type: ignore[no-any-return]

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Make each tensor its sum over all processes, bit for bit the same in each: float32, on the run's device."""
        if self.count == 1 or not tensors:
            return
        from accelerate.utils import reduce

        with _reached():
            flat = reduce(torch.cat([tensor.detach().reshape(-1) for tensor in tensors]), "sum")
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.detach().copy_(part.view(tensor.shape))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The block runs in the main process, then in the others: what it made is there for them."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    @contextmanager
    def run_folder(self, out: Path, *, force: bool = False, resume: bool = False) -> Iterator[Path]:
        """`partial.partial_folder` of a run: the main process takes the lock and renames, the others work beside it.

        Raises:
            InputError: as there.
        """
        if not self.main:
            yield self.from_main(out)
            self.wait()
            self.wait()
            return
        with partial_folder(out, force=force, resume=resume) as folder:
            self.from_main(folder)
            yield folder
            self.wait()  # until nobody reads from it any more
        self.wait()


ALONE = Processes()


def join(device: torch.device) -> Processes:
    """The processes of this run; waits until all are there.

    Args:
        device: of this process, as `usable_device` gives it.

    Raises:
        InputError: other processes than were started came together, or fewer than asked for were started. MissingExtra:
            accelerate is not installed.
    """
    count = started()
    if count == 1:
        # `accelerate launch --cpu --num_processes 2` (1.15) sets these, starts one process and says nothing; another address is
        # that of a cluster, which sets it for every job
        local = os.environ.get("MASTER_ADDR") == "127.0.0.1"
        if local and "ACCELERATE_USE_CPU" in os.environ and "WORLD_SIZE" not in os.environ:
            raise InputError(
                "accelerate was asked for several processes and started one",
                do="start them with torchrun --nproc_per_node N",
            )
        return ALONE
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise MissingExtra("accelerate", "compress", "training in several processes") from error
    state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
    if state.num_processes != count:
        raise InputError(
            f"{count} processes were started and {state.num_processes} work together", do="start them with torchrun"
        )
    return Processes(state.process_index, state.num_processes)


def started() -> int:
    """How many processes a launcher started for this run; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def _reached() -> Iterator[None]:
    """Tell in a line that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[.*?\] ", "", str(error)).partition(". ")[0][:100]  # without the place in gloo's source
        raise InputError(
            f"another process of this run is gone ({reason})", do="see what it said; the same command with --resume goes on"
        ) from error
