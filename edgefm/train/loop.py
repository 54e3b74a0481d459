"""The one training loop: epochs over views of images, a checkpoint after each, the best epoch by validation kept.

Not an objective (what is learned comes in as one) and not evaluation (that comes in as a function).

    for each epoch:   order = f(seed, epoch)   view = epoch mod views
        for each step:   torch.manual_seed(f(seed, step))   batch of views, f(seed, image, view)
            loss -> gradients, clipped -> AdamW, warm-up and cosine
        validate -> history, best weights -> checkpoint.safetensors, metrics.jsonl

Nothing else is random and no thread's timing matters, so a run that was killed and resumed on the same machine, with as many
threads, ends with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..partial import write_atomically
from ..spec.preprocess import Preprocess
from ..spec.recipe import TrainRecipe
from .checkpoint import State, read_checkpoint, snapshot, write_checkpoint
from .images import Images, parts
from .objective import Batch, Objective
from .optimizer import CLIP, learning_rate, make_optimizer, set_rate
from .precision import Precision, autocast, choose_precision, to_device
from .predict import model_input
from .progress import Clock, Report
from .randomness import order, torch_seed


@dataclass(frozen=True)
class Validation:
    """How good an epoch is: `metrics` for people, by name; `score` for the choice of the best, larger is better."""

    metrics: dict[str, float]
    score: tuple[float, ...]


Validate = Callable[[nn.Module, Precision], Validation | None]  # None: there is nothing to validate on, the last epoch is best


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on what, towards what.

    Attributes:
        module: answers `Outputs`; its weights are float32. It is trained in place.
        train: int64 `[N]`, positions of the images to learn from.
        spec: the module's preprocessing.
        recipe: its batches have two images or more: a last one of one image joins the batch before it, a single image is shown
            twice.
        beside: weights that learn along and are thrown away at the end, such as the objective's projectors.
        scales: factor of the learning rate by name of a parameter of `module`, 0 to 1, else 1; 0 freezes it.
    """

    module: nn.Module
    images: Images
    train: np.ndarray
    spec: Preprocess
    objective: Objective
    validate: Validate
    recipe: TrainRecipe
    seed: int
    device: torch.device
    beside: nn.Module | None = None
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What learns, by its prefix in a checkpoint."""
        return {"model": self.module} | ({} if self.beside is None else {"beside": self.beside})


def fit(training: Training, folder: Path, *, identity: Mapping[str, Any], resume: bool, report: Report) -> State:
    """Train; the module ends with the weights of its best epoch, in eval mode.

    Args:
        folder: exists; gets the checkpoint and metrics.jsonl.
        identity: what a resumed run must share with the one that stopped, as JSON can hold it.
        resume: go on after `folder`'s checkpoint, if there is one.

    Raises:
        InputError: the loss is not finite (names epoch and step), or the checkpoint is damaged or of another run.
    """
    module, recipe, modules = training.module, training.recipe, training.modules
    for each in modules.values():
        to_device(each, training.device)
    for name, weight in module.named_parameters():
        weight.requires_grad_(weight.requires_grad and training.scales.get(name, 1.0) > 0)
    optimizer = make_optimizer(
        module, lr=recipe.lr, weight_decay=recipe.weight_decay, scales=training.scales, beside=training.beside
    )
    state = read_checkpoint(folder, modules, optimizer, identity) if resume else None
    if state is not None:
        report.line(f"going on after epoch {state.epochs} of {recipe.epochs}")
    else:
        state = State(precision=choose_precision(module, training.device, training=True))
    clock = Clock(report, recipe.epochs, recipe.views)
    with torch.random.fork_rng(devices=[]):
        while state.epochs < recipe.epochs:
            clock.start(state.epochs)
            training.objective.prepare(state.epochs % recipe.views, clock.preparing)
            clock.prepared()
            line = _epoch(training, optimizer, state, clock)
            line["images_per_s"] = round(len(training.train) / clock.trained(), 1)
            module.eval()
            result = training.validate(module, state.precision)
            state.epochs += 1
            _keep_best(state, result, module)
            found = result.metrics if result else {}
            line |= {f"val_{name}": value for name, value in found.items() if isfinite(value)}
            state.history.append({"epoch": state.epochs} | line | {"seconds": round(clock.epoch_seconds(), 2)})
            write_checkpoint(folder, state, modules, optimizer, identity)
            write_metrics(folder, state)
            clock.done(state.history[-1])
    module.load_state_dict(state.best)
    module.eval()
    return state


def _epoch(training: Training, optimizer: torch.optim.Optimizer, state: State, clock: Clock) -> dict[str, float]:
    """One epoch of steps. Returns the means of the loss and its terms over the images, and the last learning rate."""
    module, recipe, device = training.module, training.recipe, training.device
    view = state.epochs % recipe.views
    batches = parts(training.train[order(training.seed, state.epochs, len(training.train))], recipe.batch)
    sums: dict[str, float] = {}
    weights = [weight for each in training.modules.values() for weight in each.parameters()]
    shown, count, rate = 0, sum(map(len, batches)), 0.0
    for each in training.modules.values():
        each.train()
    for indexes, windowed in zip(batches, training.images.batches(batches, training.spec)):
        torch.manual_seed(torch_seed(training.seed, state.steps))
        rate = learning_rate(state.steps, recipe.epochs * len(batches), peak=recipe.lr, warmup=recipe.warmup)
        set_rate(optimizer, rate)
        x = model_input(windowed.to(device), indexes, training.spec, (training.seed, view, recipe.augment))
        with autocast(device, state.precision):
            outputs = module(x)
        terms = training.objective(outputs, Batch(indexes, view, indexes))
        loss = torch.stack(list(terms.values())).sum()
        where = f"epoch {state.epochs + 1}, step {state.steps + 1}"
        _check(loss.item(), "the loss", where)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        _check(nn.utils.clip_grad_norm_(weights, CLIP).item(), "the norm of the gradients", where)
        optimizer.step()
        state.steps += 1
        shown += len(indexes)
        for name, term in (("loss", loss), *((f"loss_{name}", term) for name, term in terms.items())):
            sums[name] = sums.get(name, 0.0) + term.item() * len(indexes)
        clock.step(shown, count)
    return {name: value / count for name, value in sums.items()} | {"lr": rate}


def _check(value: float, what: str, where: str) -> None:
    if not isfinite(value):
        raise InputError(
            f"{what} became {value} in {where}",
            expected="a finite number",
            do="lower the learning rate (lr), or look for broken images and weights",
        )


def _keep_best(state: State, result: Validation | None, module: nn.Module) -> None:
    score = result.score if result else (float(state.epochs),)
    if not state.best_epoch or score > state.best_score:
        state.best, state.best_epoch, state.best_score = snapshot(module), state.epochs, score


def write_metrics(folder: Path, state: State) -> None:
    """metrics.jsonl: one line per finished epoch."""
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in state.history).encode())
