"""The state of a training run between two steps, in one safetensors file: tensors, and the rest as JSON in its header.

Not a run directory (that is what `models/run_dir.py` writes at the end) and never a pickle.

One file, written beside and renamed, so that weights, moments and epoch always belong together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..partial import write_atomically
from .precision import Precision

STATE = "state"  # folder inside a run that is being made; gone when it is finished
FILE = "checkpoint.safetensors"
EVERY = 300.0  # seconds from one checkpoint to the next in an epoch
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
WORDS = ("precision", "blocks", "epochs", "steps", "sums", "history", "best_epoch", "best_score")
Tensors = dict[str, torch.Tensor]


@dataclass(kw_only=True)
class State:
    """Where a run is.

    Attributes:
        epochs: finished ones. steps: finished ones, of all epochs.
        sums: of the loss and its terms over the images of the epoch that is not finished.
        precision: of the forward passes; blocks: that kernels run in, see `kernels.triton.measured`. A resumed run keeps both.
        history: one entry per finished epoch, as in metrics.jsonl.
        best: weights of the best epoch so far. best_epoch: its number from 1, 0 for none. best_score: larger is better.
    """

    precision: Precision
    blocks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    epochs: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)
    best_epoch: int = 0
    best_score: tuple[float, ...] = ()


def snapshot(module: nn.Module) -> Tensors:
    """A copy of all weights and buffers, on the CPU."""
    return {name: _copy(value) for name, value in module.state_dict().items()}


@dataclass(kw_only=True)
class Checkpoint:
    """The file of a run in `folder`.

    Attributes:
        modules: what learns, by the prefix of its tensors. optimizer: of all of it.
        identity: what a resumed run must have in common with the one that stopped, as JSON can hold it.
    """

    folder: Path
    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    identity: Mapping[str, Any]
    _written: float = field(default_factory=time.monotonic, init=False)

    def due(self) -> bool:
        """Whether so long nothing was written that it is time."""
        return time.monotonic() - self._written >= EVERY

    def write(self, state: State) -> None:
        """Replace the file.

        Raises:
            InputError: it cannot be written.
        """
        from safetensors.torch import save

        tensors = {f"best.{name}": value for name, value in state.best.items()}
        for part, module in self.modules.items():
            tensors |= {f"{part}.{name}": value for name, value in snapshot(module).items()}
        for name, weight in self._weights():
            moments = self.optimizer.state.get(weight, {})
            tensors |= {f"{kind}.{name}": _copy(moments[kind]) for kind in MOMENTS if kind in moments}
        words = {name: getattr(state, name) for name in WORDS} | {"identity": self.identity}
        # One metadata key: safetensors writes several in random order.
        write_atomically(state_folder(self.folder) / FILE, save(tensors, {"state": json.dumps(words)}))
        self._written = time.monotonic()

    def read(self) -> State | None:
        """Put modules and optimizer where the file left them; None if there is none.

        Raises:
            InputError: the file is damaged, or its identity differs; names the difference.
        """
        from safetensors import SafetensorError, safe_open

        path = self.folder / STATE / FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                words = json.loads((file.metadata() or {})["state"])
                check_identity(self.folder, words["identity"], self.identity)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            for part, module in self.modules.items():
                module.load_state_dict(_part(tensors, f"{part}."))
            for name, weight in self._weights():
                moments = {kind: tensors[f"{kind}.{name}"] for kind in MOMENTS if f"{kind}.{name}" in tensors}
                if moments:
                    self.optimizer.state[weight] = {kind: _like(value, weight, kind) for kind, value in moments.items()}
            found = {name: words[name] for name in WORDS} | {"best_score": tuple(words["best_score"])}
            return State(best=_part(tensors, "best."), **found)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"the checkpoint {path} is damaged ({reason})", do="start again without --resume") from error

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        for part, module in self.modules.items():
            for name, weight in module.named_parameters():
                yield f"{part}.{name}", weight


def check_resumable(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raise `InputError` if `folder` holds a checkpoint of another run, before work is done for it; see `Checkpoint.read`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / STATE / FILE, framework="pt") as file:
            then = json.loads((file.metadata() or {})["state"])["identity"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return  # there is none, or it is damaged, which its reading will say
    check_identity(folder, then, identity)


def state_folder(folder: Path) -> Path:
    """Where a run in `folder` keeps what only a resumed run needs; made if it is not there."""
    path = folder / STATE
    path.mkdir(exist_ok=True)
    return path


def check_identity(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `InputError` naming what differs between the run that stopped and the one that would go on."""
    before, after = _flat(then), _flat(json.loads(json.dumps(now)))
    changed = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    if changed:
        listed = ", ".join(f"{key} was {before.get(key)} and is {after.get(key)}" for key in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"{folder} belongs to another run: {listed}{more}", do="use the same settings, or start again without --resume"
        )


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return flat


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _copy(value: torch.Tensor) -> torch.Tensor:
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _like(value: torch.Tensor, weight: torch.Tensor, kind: str) -> torch.Tensor:
    """A moment on its weight's device and in its memory format; `step` stays where AdamW keeps it."""
    if kind == "step":
        return value.to(weight.device)
    return torch.empty_like(weight, memory_format=torch.preserve_format).copy_(value)
