"""The one training loop: epochs over views of images, checkpoints, the best epoch by validation kept.

Not an objective (what is learned comes in as one) and not evaluation (that comes in as a function).

    for each epoch:   order = f(seed, epoch)   view = epoch mod views
        for each step:   torch.manual_seed(f(seed, step, piece))   batch of views, f(seed, image, view)
            loss -> gradients, clipped -> AdamW, warm-up and cosine          (step.py)
        validate -> history, best weights -> checkpoint.safetensors, metrics.jsonl

Nothing else is random and no thread's timing matters, so a run that was killed at any step and resumed on the same machine,
with as many threads and processes, ends with the same bytes. In mid-epoch too a checkpoint is written every few minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..kernels.triton.measured import kept_on, only
from ..partial import write_atomically
from .checkpoint import Checkpoint, State, snapshot
from .events import event_files
from .images import parts
from .optimizer import learning_rate, make_optimizer, set_rate
from .precision import choose_precision, to_device
from .progress import Clock, Report
from .randomness import order
from .step import cut, take_step
from .training import Training, Validate, Validation

__all__ = ["Training", "Validate", "Validation", "fit"]


def fit(training: Training, folder: Path, *, identity: Mapping[str, Any], resume: bool, report: Report) -> State:
    """Train; the module ends with the weights of its best epoch, in eval mode.

    With `recipe.patience` it stops after as many epochs without a better score; the learning rate still falls as if it were
    to run to the end. Of several processes only the main one prepares the objective first, validates, reports and writes.

    Args:
        folder: exists; gets the checkpoint, metrics.jsonl, and with `recipe.tensorboard` the folder tensorboard.
        identity: what a resumed run must share with the one that stopped, as JSON can hold it.
        resume: go on after `folder`'s checkpoint, if there is one.

    Raises:
        InputError: the loss is not finite (names epoch and step), or the checkpoint is damaged or of another run.
        MissingExtra: TensorBoard is asked for and not installed.
    """
    module, recipe, processes = training.module, training.recipe, training.processes
    report = report if processes.main else Report()
    checkpoint = _prepare(training, folder, identity)
    state = checkpoint.read() if resume else None
    steps = len(parts(training.train, recipe.batch))
    if state is None:
        precision = choose_precision(module, training.device, training=True)
        state = State(precision=precision, blocks=kept_on(training.device))
        for each in training.modules.values() if processes.count > 1 else ():
            each.load_state_dict(processes.from_main(snapshot(each)))
    else:
        done = state.steps - state.epochs * steps
        within = f" and {done} of the next one's {steps} steps" if done else ""
        report.line(f"going on after epoch {state.epochs} of {recipe.epochs}{within}")
        if processes.main:
            write_metrics(folder, state)  # it may have been killed between the checkpoint and this
    if processes.count > 1:
        report.line(f"{processes.count} processes share each batch")
    clock = Clock(report, recipe)
    with (
        only({key: tuple(each) for key, each in state.blocks.items()}),
        torch.random.fork_rng(devices=[]),
        event_files(folder, state.history, wanted=recipe.tensorboard and processes.main) as add_events,
    ):
        while state.epochs < recipe.epochs and not _exhausted(state, recipe.patience):
            clock.start(state.epochs)
            with processes.main_first():
                training.objective.prepare(state.epochs % recipe.views, clock.preparing)
            line = _epoch(training, checkpoint, state, clock)
            module.eval()
            result = processes.from_main(training.validate(module, state.precision) if processes.main else None)
            state.epochs, state.sums = state.epochs + 1, {}
            _keep_best(state, result, module)
            found = result.metrics if result else {}
            line |= {f"val_{name}": value for name, value in found.items() if isfinite(value)}
            state.history.append({"epoch": state.epochs} | line | {"seconds": round(clock.epoch_seconds(), 2)})
            if processes.main:
                checkpoint.write(state)
                write_metrics(folder, state)
                add_events(state.history[-1])
            clock.done(state.history[-1])
    if state.epochs < recipe.epochs:
        report.line(f"no better validation for {recipe.patience} epochs: stopped, epoch {state.best_epoch} is the best")
    module.load_state_dict(state.best)
    module.eval()
    return state


def _prepare(training: Training, folder: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """What learns, on its device, under its optimizer."""
    module, recipe = training.module, training.recipe
    for each in training.modules.values():
        to_device(each, training.device)
    for name, weight in module.named_parameters():
        weight.requires_grad_(weight.requires_grad and training.scales.get(name, 1.0) > 0)
    optimizer = make_optimizer(
        module, lr=recipe.lr, weight_decay=recipe.weight_decay, scales=training.scales, beside=training.beside
    )
    return Checkpoint(folder=folder, modules=training.modules, optimizer=optimizer, identity=identity)


def _epoch(training: Training, checkpoint: Checkpoint, state: State, clock: Clock) -> dict[str, float]:
    """The steps of an epoch that are left. Returns the means of the loss and its terms over the images, and the last rate."""
    recipe, processes = training.recipe, training.processes
    batches = parts(training.train[order(training.seed, state.epochs, len(training.train))], recipe.batch)
    done = state.steps - state.epochs * len(batches)
    pieces = [cut(batch, processes, recipe.accumulate) for batch in batches[done:]]
    shown, count, rate = sum(map(len, batches[:done])), sum(map(len, batches)), 0.0
    for each in training.modules.values():
        each.train()
    clock.prepared(shown)
    with closing(training.images.batches([piece.indexes for each in pieces for piece in each], training.spec)) as images:
        for batch, mine in zip(batches[done:], pieces):
            rate = learning_rate(state.steps, recipe.epochs * len(batches), peak=recipe.lr, warmup=recipe.warmup)
            set_rate(checkpoint.optimizer, rate)
            terms = take_step(training, checkpoint.optimizer, batch, mine, images, state)
            state.steps += 1
            shown += len(batch)
            for name, term in terms.items():
                state.sums[name] = state.sums.get(name, 0.0) + term * len(batch)
            clock.step(shown, count)
            if processes.main and shown < count and checkpoint.due():
                checkpoint.write(state)
    means = {name: total / count for name, total in state.sums.items()}
    return means | {"lr": rate, "images_per_s": round(clock.trained(count), 1)}


def _exhausted(state: State, patience: int | None) -> bool:
    return patience is not None and state.epochs - state.best_epoch >= patience


def _keep_best(state: State, result: Validation | None, module: nn.Module) -> None:
    score = result.score if result else (float(state.epochs),)
    if not state.best_epoch or score > state.best_score:
        state.best, state.best_epoch, state.best_score = snapshot(module), state.epochs, score


def write_metrics(folder: Path, state: State) -> None:
    """metrics.jsonl: one line per finished epoch."""
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in state.history).encode())
