"""What a search has found so far, in `OUT.partial`: killed at any moment, it need not find it again.

Not the search itself (`search.py`).

run.json                 what the run is of; a resumed run must be of the same
seconds                  of the search's minutes that are spent
trials/NAME.onnx         the int8 graph of a trial that was measured
trials/NAME.npz          what it answers on `val`, per variant and output; written last
best.efm                 a whole bundle with the best int8 so far, marked as refused
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ..errors import InputError
from ..partial import write_atomically

Outputs = Mapping[str, np.ndarray]
BEST = "best.efm"


class Kept:
    """A run's working folder.

    Args:
        folder: `OUT.partial`, this process's own.
        identity: what a resumed run must have in common with the one that stopped, as JSON can hold it.

    Raises:
        InputError: the folder is of another run.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        file, now = folder / "run.json", msgspec.json.format(msgspec.json.encode(identity), indent=1)
        if file.exists() and file.read_bytes() != now:
            raise InputError(
                f"{folder} belongs to a run with another model, other data, settings or libraries",
                expected=f"what {file.name} in it says",
                do="use the same, or start again without --resume",
            )
        write_atomically(file, now)
        (folder / "trials").mkdir(exist_ok=True)

    @property
    def seconds(self) -> float:
        """Seconds of the search's minutes that were spent before it stopped. Raises `InputError` if they are damaged."""
        file = self.folder / "seconds"
        if not file.exists():
            return 0.0
        try:
            return float(file.read_bytes())
        except ValueError as error:
            raise InputError(f"{file} is damaged ({error})", do="start again without --resume") from error

    def spend(self, seconds: float) -> None:
        """Keep how many seconds are spent by now, those of earlier runs among them."""
        write_atomically(self.folder / "seconds", f"{seconds:.3f}\n".encode())

    @property
    def best(self) -> Path:
        """Where the best bundle so far lies."""
        return self.folder / BEST

    def recall(self, name: str) -> tuple[onnx.ModelProto, dict[str, dict[str, np.ndarray]]] | None:
        """A trial's graph and its outputs by variant; None for one that was not measured to the end.

        Raises:
            InputError: its files are damaged.
        """
        graph, answers = self._files(name)
        if not answers.exists():
            return None
        try:
            with np.load(answers, allow_pickle=False) as found:
                outputs: dict[str, dict[str, np.ndarray]] = {}
                for key in found.files:
                    variant, _, output = key.partition("/")
                    outputs.setdefault(variant, {})[output] = found[key]
            return onnx.load_model_from_string(graph.read_bytes()), outputs
        except (OSError, ValueError, BadZipFile, DecodeError) as error:
            raise InputError(f"{graph} or {answers.name} is damaged ({error})", do="start again without --resume") from error

    def store(self, name: str, graph: onnx.ModelProto, outputs: Mapping[str, Outputs]) -> None:
        """Keep a trial that was measured. Raises `InputError` if it cannot be written."""
        graph_file, answers = self._files(name)
        buffer = io.BytesIO()
        np.savez(buffer, **{f"{variant}/{key}": value for variant, found in outputs.items() for key, value in found.items()})
        write_atomically(graph_file, graph.SerializeToString(deterministic=True))
        write_atomically(answers, buffer.getvalue())

    def _files(self, name: str) -> tuple[Path, Path]:
        stem = name.replace(" ", "-")
        return self.folder / "trials" / f"{stem}.onnx", self.folder / "trials" / f"{stem}.npz"
