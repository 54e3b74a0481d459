"""TensorBoard's event files of a run: the curves of metrics.jsonl. Not the record: that is metrics.jsonl itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingExtra

FOLDER = "tensorboard"
Line = dict[str, Any]  # an epoch's entry in metrics.jsonl


def writer_class() -> Any:
    """torch's `SummaryWriter`. Raises `MissingExtra` where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise MissingExtra("tensorboard", "tensorboard", "tensorboard: true") from error
    return SummaryWriter


@contextmanager
def event_files(folder: Path, history: Sequence[Line], *, wanted: bool) -> Iterator[Callable[[Line], None]]:
    """What takes each further epoch's line; it does nothing unless `wanted`.

    The files are written anew from `history`, so a resumed run has every epoch in them once.

    Raises:
        MissingExtra: TensorBoard is not installed.
    """
    if not wanted:
        yield lambda line: None
        return
    make = writer_class()
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    writer = make(str(folder / FOLDER))

    def add(line: Line) -> None:
        for name, value in line.items():
            if name != "epoch":
                writer.add_scalar(name, value, line["epoch"])
        writer.flush()

    try:
        for line in history:
            add(line)
        yield add
    finally:
        writer.close()
