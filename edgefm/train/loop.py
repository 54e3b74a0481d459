"""The one training loop: epochs over views of images, a checkpoint after each, the best epoch by validation kept.

Not an objective (what is learned comes in as one) and not evaluation (that comes in as a function).

    for each epoch:   order = f(seed, epoch)   view = epoch mod views
        for each step:   torch.manual_seed(f(seed, step))   batch of views, f(seed, image, view)
            loss -> gradients, clipped -> AdamW, warm-up and cosine
        validate -> history, best weights -> checkpoint.safetensors, metrics.jsonl

Nothing else is random and no thread's timing matters, so a run that was killed and resumed ends with the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..partial import write_atomically
from ..spec.preprocess import Preprocess
from ..spec.recipe import DistillRecipe
from .checkpoint import State, read_checkpoint, snapshot, write_checkpoint
from .images import Images, parts
from .objective import Batch, Objective
from .optimizer import CLIP, learning_rate, make_optimizer
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


def fit(
    module: nn.Module,
    images: Images,
    train: np.ndarray,
    spec: Preprocess,
    objective: Objective,
    validate: Validate,
    folder: Path,
    *,
    recipe: DistillRecipe,
    seed: int,
    device: torch.device,
    identity: Mapping[str, Any],
    resume: bool = False,
    report: Report,
) -> State:
    """Train `module` in place; it ends with the weights of its best epoch, in eval mode.

    Args:
        module: answers `Outputs`; its weights are float32.
        train: int64 `[N]`, positions of the images to learn from.
        spec: the module's preprocessing.
        folder: exists; gets the checkpoint and metrics.jsonl.
        recipe: epochs, views, batch, lr, weight_decay, warmup, augment; a last batch of one image joins the one before.
        identity: what a resumed run must share with the one that stopped.
        resume: go on after `folder`'s checkpoint, if there is one.

    Raises:
        InputError: the loss is not finite (names epoch and step), or the checkpoint is damaged or of another run.
    """
    to_device(module, device)
    optimizer = make_optimizer(module, lr=recipe.lr, weight_decay=recipe.weight_decay)
    state = read_checkpoint(folder, module, optimizer, identity) if resume else None
    if state is not None:
        report.line(f"going on after epoch {state.epochs} of {recipe.epochs}")
    else:
        state = State(precision=choose_precision(module, device, training=True))
    clock = Clock(report, recipe.epochs, recipe.views)
    views = (seed, recipe.augment)
    with torch.random.fork_rng(devices=[]):
        while state.epochs < recipe.epochs:
            started = time.perf_counter()
            clock.start(state.epochs)
            objective.prepare(state.epochs % recipe.views, clock.preparing)
            clock.prepared()
            batches = parts(train[order(seed, state.epochs, len(train))], recipe.batch)
            terms, rate = _epoch(module, images, batches, spec, objective, optimizer, state, recipe, views, device, clock)
            speed = len(train) / clock.trained()
            module.eval()
            result = validate(module, state.precision)
            state.epochs += 1
            _keep_best(state, result, module)
            state.history.append(
                {"epoch": state.epochs, "loss": sum(terms.values())}
                | {f"loss_{name}": value for name, value in terms.items()}
                | {f"val_{name}": value if isfinite(value) else None for name, value in (result.metrics if result else {}).items()}
                | {"lr": rate, "images_per_s": round(speed, 1), "seconds": round(time.perf_counter() - started, 2)}
            )
            write_checkpoint(folder, state, module, optimizer, identity)
            write_metrics(folder, state)
            clock.done(state.history[-1])
    module.load_state_dict(state.best)
    module.eval()
    return state


def _epoch(
    module: nn.Module,
    images: Images,
    batches: list[np.ndarray],
    spec: Preprocess,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    state: State,
    recipe: DistillRecipe,
    views: tuple[int, Any],
    device: torch.device,
    clock: Clock,
) -> tuple[dict[str, float], float]:
    """One epoch of steps. Returns the mean of each loss term over the images, and the last learning rate."""
    seed, augment = views
    view = state.epochs % recipe.views
    sums: dict[str, float] = {}
    shown, rate = 0, 0.0
    module.train()
    for indexes, windowed in zip(batches, images.batches(batches, spec)):
        torch.manual_seed(torch_seed(seed, state.steps))
        rate = learning_rate(state.steps, recipe.epochs * len(batches), peak=recipe.lr, warmup=recipe.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = model_input(windowed.to(device), indexes, spec, (seed, view, augment))
        with autocast(device, state.precision):
            outputs = module(x)
        terms = objective(outputs, Batch(indexes, view))
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        where = f"epoch {state.epochs + 1}, step {state.steps + 1}"
        _check(loss.item(), "the loss", where)
        _check(norm.item(), "the norm of the gradients", where)
        optimizer.step()
        state.steps += 1
        shown += len(indexes)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item() * len(indexes)
        clock.step(shown, sum(map(len, batches)))
    return {name: value / shown for name, value in sums.items()}, rate


def _check(value: float, what: str, where: str) -> None:
    if not isfinite(value):
        raise InputError(
            f"{what} became {value} in {where}",
            expected="a finite number",
            do="lower distill.lr, or look for broken images and weights",
        )


def _keep_best(state: State, result: Validation | None, module: nn.Module) -> None:
    score = result.score if result else (float(state.epochs),)
    if not state.best_epoch or score > state.best_score:
        state.best, state.best_epoch, state.best_score = snapshot(module), state.epochs, score


def write_metrics(folder: Path, state: State) -> None:
    """metrics.jsonl: one line per finished epoch."""
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in state.history).encode())
