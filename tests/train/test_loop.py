"""The loop: it learns, awkward sizes train, the best epoch is kept, what is not finite stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.models.loaded import Outputs
from edgefm.spec.recipe import TrainRecipe
from edgefm.train.checkpoint import State, snapshot
from edgefm.train.images import Images
from edgefm.train.loop import Training, Validation, fit
from edgefm.train.objective import Batch, LabelObjective
from edgefm.train.progress import Report, duration
from edgefm.train.validation import validate_labels

from .runs import CPU, SHORT, Stop, curve, run, same, training_of
from .toys import GREY, Plain, Toy, data_of


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    one, again, other = Toy(), Toy(), Toy()
    run(training_of(one), tmp_path / "one")
    torch.manual_seed(123)  # what happened before does not matter
    run(training_of(again), tmp_path / "again")
    run(training_of(other, seed=6), tmp_path / "other")
    assert same(one, again)
    assert not same(one, other)


def test_training_leaves_the_randomness_of_the_program_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    run(training_of(), tmp_path / "run")
    assert torch.equal(torch.rand(3), wanted)


def test_the_loop_learns(tmp_path: Path) -> None:
    state = run(training_of(train=40, val=20, recipe=TrainRecipe(epochs=8, views=2, batch=8, lr=0.05)), tmp_path / "run")
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert state.best_score[0] > 0.9


def test_the_best_epoch_is_kept_and_not_the_last(tmp_path: Path) -> None:
    scores = iter([0.5, 0.9, 0.9, 0.7])
    seen = []

    def validate(module: nn.Module, precision: str) -> Validation:
        seen.append(snapshot(module))
        return Validation({}, (next(scores),))

    training = training_of()
    module = training.module
    object.__setattr__(training, "validate", validate)
    state = run(training, tmp_path / "run")
    assert state.best_epoch == 2
    assert all(torch.equal(a, b) for a, b in zip(snapshot(module).values(), seen[1].values()))
    assert not module.training


def test_without_validation_images_the_last_epoch_is_kept(tmp_path: Path) -> None:
    state = run(training_of(val=0), tmp_path / "run")
    assert state.best_epoch == 4
    assert "val_auc" not in state.history[0]


@pytest.mark.parametrize("val", [1, 2], ids=["one val image", "two val images"])
def test_an_auc_that_is_not_defined_leaves_the_choice_to_the_loss(tmp_path: Path, val: int) -> None:
    state = run(training_of(val=val), tmp_path / "run")
    losses = [line["val_loss"] for line in state.history]
    if val == 1:
        assert "val_auc" not in state.history[0]
        assert state.best_epoch == 1 + losses.index(min(losses))


@pytest.mark.parametrize("train", [1, 2, 3, 5, 9], ids=lambda n: f"{n} images")
@pytest.mark.parametrize("batch", [1, 4, 64], ids=lambda n: f"batch {n}")
def test_odd_sizes_train_with_batch_norm(tmp_path: Path, train: int, batch: int) -> None:
    recipe = TrainRecipe(epochs=2, views=3, batch=batch)
    state = run(training_of(train=train, recipe=recipe), tmp_path / "run")
    assert len(state.history) == 2
    assert all(np.isfinite(line["loss"]) for line in state.history)


def test_metrics_have_one_line_per_epoch(tmp_path: Path) -> None:
    run(training_of(), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert {"loss", "loss_labels", "val_auc", "val_loss", "lr", "images_per_s", "seconds"} <= set(lines[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_naming_epoch_and_step(tmp_path: Path, value: float) -> None:
    training = training_of()
    inner, calls = training.objective, iter(range(99))

    class Exploding:
        def prepare(self, view: int, progress: Callable[[int, int], None]) -> None:
            pass

        def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
            terms = inner(outputs, batch)
            return {name: term * (value if next(calls) == 4 else 1) for name, term in terms.items()}

    object.__setattr__(training, "objective", Exploding())
    with pytest.raises(InputError, match=r"loss became (nan|inf) in epoch 2, step 5"):
        run(training, tmp_path / "run")


def test_gradients_that_are_not_finite_stop_before_the_weights_are_lost(tmp_path: Path) -> None:
    training = training_of()

    class Cliff:
        def prepare(self, view: int, progress: Callable[[int, int], None]) -> None:
            pass

        def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
            assert outputs.logits is not None
            return {"cliff": (outputs.logits * 0).sum().sqrt()}  # its slope at 0 is infinite

    object.__setattr__(training, "objective", Cliff())
    with pytest.raises(InputError, match="gradients became nan in epoch 1, step 1"):
        run(training, tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in snapshot(training.module).values())


def test_several_labels_train_too(tmp_path: Path) -> None:
    from edgefm.spec.task import make_task

    task = make_task("multilabel", ("a", "b", "c"))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (14, 3)).astype(np.uint8)
    dataset = data_of(
        [rng.integers(0, 256, (16, 16)).astype(np.uint8) for _ in range(14)], labels, ["train"] * 9 + ["val"] * 5, task
    )
    images, train = Images(dataset), np.arange(9)
    training = Training(
        module=Toy(classes=3),
        images=images,
        train=train,
        spec=GREY,
        objective=LabelObjective(labels, train, "multilabel", 3, CPU),
        validate=validate_labels(images, np.arange(9, 14), labels, GREY, task, CPU),
        recipe=SHORT,
        seed=0,
        device=CPU,
    )
    assert len(run(training, tmp_path / "run").history) == 4


def stopping_after(scores: list[float], patience: int, folder: Path, resume: bool = False, stop: int | None = None) -> State:
    """A run of 20 epochs whose validation gives these scores, epoch by epoch."""
    training = training_of(recipe=TrainRecipe(epochs=20, views=2, batch=4, patience=patience), stop=stop)
    seen = iter(scores[len(curve(folder)) :] if resume else scores)
    object.__setattr__(training, "validate", lambda module, precision: Validation({}, (next(seen),)))
    return run(training, folder, resume)


def test_training_stops_after_its_patience_and_keeps_the_best(tmp_path: Path) -> None:
    state = stopping_after([0.5, 0.6, 0.9, 0.7, 0.8, 0.9], 3, tmp_path / "run")  # as good is not better
    assert (state.epochs, state.best_epoch) == (6, 3)
    assert len(curve(tmp_path / "run")) == 6


@pytest.mark.parametrize("step", [4, 11, 13, 17], ids=lambda step: f"stopped after {step} steps")
def test_a_resumed_run_has_as_much_patience_as_it_had(tmp_path: Path, step: int) -> None:
    scores = [0.5, 0.6, 0.9, 0.7, 0.8, 0.9]
    with pytest.raises(Stop):
        stopping_after(scores, 3, tmp_path / "run", stop=step)
    state = stopping_after(scores, 3, tmp_path / "run", resume=True)
    assert (state.epochs, state.best_epoch) == (6, 3)
    assert stopping_after(scores, 3, tmp_path / "run", resume=True).epochs == 6  # killed when it was over: it stays over


def test_without_validation_images_no_patience_is_lost(tmp_path: Path) -> None:
    state = run(training_of(val=0, recipe=TrainRecipe(epochs=4, batch=4, patience=1)), tmp_path / "run")
    assert state.epochs == 4


def test_scales_of_the_rate_freeze_and_slow_down(tmp_path: Path) -> None:
    module, plain = Plain(), Plain()
    run(training_of(plain, recipe=SHORT), tmp_path / "plain")
    scales = {"body.0.weight": 0.0, "body.0.bias": 0.0, "head.bias": 0.1}
    run(training_of(module, recipe=SHORT, scales=scales), tmp_path / "run")
    start, end, free = snapshot(Plain()), snapshot(module), snapshot(plain)
    assert torch.equal(start["body.0.weight"], end["body.0.weight"])
    assert not module.body[0].weight.requires_grad
    slow, fast = ((each["head.bias"] - start["head.bias"]).abs().max().item() for each in (end, free))
    assert 0 < slow < 0.3 * fast


def test_lines_tell_the_time_left(tmp_path: Path) -> None:
    lines: list[str] = []
    shares: list[float] = []
    (tmp_path / "run").mkdir()
    report = Report(lines.append, lambda share, left: shares.append(share))
    fit(training_of(), tmp_path / "run", identity={}, resume=False, report=report)
    assert [line.split(",")[0] for line in lines] == ["epoch 1/4", "epoch 2/4", "epoch 3/4", "epoch 4/4"]
    assert lines[0].endswith("left")
    assert not lines[3].endswith("left")
    assert shares == sorted(shares)
    assert [duration(seconds) for seconds in (3.2, 89, 91, 5399, 5401)] == ["3 s", "89 s", "2 min", "90 min", "1.5 h"]
