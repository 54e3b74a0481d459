"""Batches in pieces: what is learned from a batch does not depend on how it was cut, where the model has no BatchNorm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgefm.models.loaded import Outputs
from edgefm.runtime import cpu
from edgefm.spec.recipe import TrainRecipe
from edgefm.train.checkpoint import snapshot
from edgefm.train.objective import Batch, LabelObjective, Progress
from edgefm.train.optimizer import CLIP
from edgefm.train.processes import Processes
from edgefm.train.step import cut

from .runs import CPU, curve, run, training_of
from .toys import Plain, Toy


@pytest.fixture(autouse=True)
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 the pieces of a batch differ from the whole by bf16's round-off."""
    monkeypatch.setattr(cpu, "cpu_features", dict)


class Counted(nn.Module):
    """Keeps how many images it was shown at once."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> Outputs:
        self.seen.append(len(x))
        return self.inner(x)


def uneven(kind: str) -> LabelObjective:
    """Labels some of which are rare, so that the pieces of a batch weigh differently."""
    chance = np.random.default_rng(1).random((12, 3))
    if kind == "multilabel":
        labels = (chance < [0.5, 0.2, 0.1]).astype(np.uint8)
    else:
        labels = (chance[:, 0] < 0.2).astype(np.int64) + (chance[:, 0] < 0.1)
    return LabelObjective(labels, np.arange(12), kind, 3, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("accumulate", [2, 3, 99], ids=lambda n: f"{n} pieces")
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_batch_in_pieces_teaches_what_the_whole_one_teaches(tmp_path: Path, accumulate: int, kind: str) -> None:
    modules = []
    for pieces in (1, accumulate):
        module = Counted(Plain(classes=3))
        recipe = TrainRecipe(epochs=3, views=2, batch=7, accumulate=pieces, lr=0.02)
        run(training_of(module, val=0, recipe=recipe, objective=uneven(kind)), tmp_path / str(pieces))
        modules.append(module)
    assert set(modules[0].seen) == {7, 5}
    assert set(modules[1].seen) == {2: {4, 3, 2}, 3: {3, 2}, 99: {3, 2}}[accumulate]
    assert sum(modules[0].seen) == sum(modules[1].seen)
    one, other = map(snapshot, modules)
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 1e-5
    for line, cut_up in zip(curve(tmp_path / "1"), curve(tmp_path / str(accumulate))):
        assert line == pytest.approx(cut_up, abs=1e-6)


def test_pieces_of_two_images_train_with_batch_norm(tmp_path: Path) -> None:
    module = Counted(Toy())
    recipe = TrainRecipe(epochs=2, batch=6, accumulate=6)
    run(training_of(module, train=13, val=0, recipe=recipe), tmp_path / "run")
    assert set(module.seen) == {2, 3}


@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [2, 3, 4, 7, 32])
def test_every_image_of_a_batch_is_in_one_piece_of_one_process(size: int, count: int, accumulate: int) -> None:
    batch = np.arange(size) * 10
    each = [cut(batch, Processes(rank, count), accumulate) for rank in range(count)]
    shown = [piece for pieces in each for piece in pieces if piece.share]
    assert np.concatenate([piece.indexes for piece in shown]).tolist() == batch.tolist()
    assert [piece.share for piece in shown] == [len(piece.indexes) / size for piece in shown]
    assert len({piece.number for piece in shown}) == len(shown)
    assert all(len(piece.indexes) >= 2 for pieces in each for piece in pieces)
    assert all(1 <= len(pieces) <= accumulate for pieces in each)
    assert all(len(pieces) == 1 for pieces in each if not pieces[0].share)


def test_an_objective_is_told_the_whole_batch(tmp_path: Path) -> None:
    told: list[Batch] = []

    class Told:
        def prepare(self, view: int, progress: Progress) -> None:
            pass

        def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
            told.append(batch)
            return {"size": outputs.embedding.float().square().mean()}

    recipe = TrainRecipe(epochs=1, batch=4, accumulate=2)
    run(training_of(Plain(), val=0, recipe=recipe, objective=Told()), tmp_path / "run")
    assert len(told) == 6
    for first, second in zip(told[::2], told[1::2]):
        assert first.whole.tolist() == second.whole.tolist() == [*first.indexes, *second.indexes]
    assert sorted(index for batch in told for index in batch.indexes) == list(range(12))


def test_what_learns_beside_is_clipped_together_with_the_module(tmp_path: Path) -> None:
    module, beside = Plain(), nn.Linear(6, 1)

    class Steep:
        def prepare(self, view: int, progress: Progress) -> None:
            pass

        def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
            return {"steep": 1000 * beside(outputs.embedding).square().mean()}

    recipe = TrainRecipe(epochs=1, batch=12)
    run(training_of(module, val=0, recipe=recipe, objective=Steep(), beside=beside), tmp_path / "run")
    norms = [each.grad.norm() for part in (module, beside) for each in part.parameters() if each.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(CLIP, rel=1e-4)
    assert beside.weight.grad.norm() > 0.1
