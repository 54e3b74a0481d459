"""One step of training: a batch cut into pieces, their gradients added up, clipped, applied. Not the order of the batches.

    batch ──▶ one share per process ──▶ `accumulate` pieces each, one after the other
    gradient of the batch = sum over all pieces of (the piece's share of the images) x (gradient of the piece's mean loss)

So a batch that was cut learns what it would learn whole, up to round-off, with two exceptions: BatchNorm normalises by the
images of a piece, and dropout draws anew for each. BatchNorm's running statistics are averaged over the processes, so all
of them hold the same model after every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from .checkpoint import State
from .objective import Batch
from .optimizer import CLIP
from .precision import Precision, autocast
from .predict import answer, model_input
from .processes import Processes
from .randomness import torch_seed
from .training import Training


@dataclass(frozen=True)
class Piece:
    """Images that go through the model at once.

    Attributes:
        indexes: int64 `[N]`, positions in the data set. share: of the batch's images; 0 makes up the numbers.
        number: of the piece in its batch, over all processes.
    """

    indexes: np.ndarray
    share: float
    number: int


def cut(batch: np.ndarray, processes: Processes, accumulate: int) -> list[Piece]:
    """This process's pieces of a batch. Each has two images or more, as BatchNorm needs them, so there may be fewer pieces.

    A process that gets none computes somebody's piece with share 0: every process has gradients to add up.

    Args:
        batch: int64 `[N]`, N at least 2, the same in all processes.
    """
    shares = _even(batch, processes.count)
    idle = processes.rank >= len(shares)
    pieces = _even(shares[0 if idle else processes.rank], accumulate)[: 1 if idle else None]
    first = processes.rank * accumulate
    return [Piece(rows, 0.0 if idle else len(rows) / len(batch), first + position) for position, rows in enumerate(pieces)]


def _even(rows: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` parts whose sizes differ by one at most; fewer where they would have less than two rows."""
    return np.array_split(rows, max(1, min(count, len(rows) // 2)))


def take_step(
    training: Training,
    optimizer: torch.optim.Optimizer,
    batch: np.ndarray,
    pieces: list[Piece],
    images: Iterator[torch.Tensor],
    state: State,
) -> dict[str, float]:
    """One step of the optimizer on `batch`.

    Args:
        pieces: this process's. images: float32 `[N, C, S, S]`, windowed, for each piece in turn.
        state: where the run is before the step.

    Returns:
        the whole batch's loss and its terms, by name.

    Raises:
        InputError: the loss or the gradients are not finite; the weights are as before.
    """
    view = state.epochs % training.recipe.views
    optimizer.zero_grad()
    totals: dict[str, torch.Tensor] = {}
    for piece in pieces:
        torch.manual_seed(torch_seed(training.seed, state.steps, piece.number))
        terms = _forward(training, Batch(piece.indexes, view, batch), next(images), state.precision)
        loss = torch.stack(list(terms.values())).sum()
        (loss * piece.share).backward()  # type: ignore[no-untyped-call]
        for name, term in (("loss", loss), *((f"loss_{name}", term) for name, term in terms.items())):
            totals[name] = totals.get(name, 0.0) + term.detach() * piece.share
    weights = [weight for module in training.modules.values() for weight in module.parameters()]
    _add(training, weights, totals, sum(piece.share for piece in pieces))
    found = dict(zip(totals, torch.stack(list(totals.values())).tolist()))
    where = f"epoch {state.epochs + 1}, step {state.steps + 1}"
    _check(found["loss"], "the loss", where)
    _check(nn.utils.clip_grad_norm_(weights, CLIP).item(), "the norm of the gradients", where)
    optimizer.step()
    return found


def _forward(training: Training, batch: Batch, images: torch.Tensor, precision: Precision) -> dict[str, torch.Tensor]:
    views = (training.seed, batch.view, training.recipe.augment)
    x = model_input(images.to(training.device), batch.indexes, training.spec, views)
    with autocast(training.device, precision):
        outputs = answer(training.module, x, batch.indexes)
    return training.objective(outputs, batch)


def _add(training: Training, weights: list[nn.Parameter], totals: dict[str, torch.Tensor], share: float) -> None:
    """Add up over the processes: gradients, loss, and the running statistics by this process's `share` of the images."""
    if training.processes.count == 1:
        return
    statistics = [
        value
        for module in training.modules.values()
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
        for value in (layer.running_mean, layer.running_var)
        if value is not None
    ]
    for value in statistics:
        value.mul_(share)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    training.processes.add([*gradients, *statistics, *totals.values()])


def _check(value: float, what: str, where: str) -> None:
    if not isfinite(value):
        raise InputError(
            f"{what} became {value} in {where}",
            expected="a finite number",
            do="lower the learning rate (lr), or look for broken images and weights",
        )
