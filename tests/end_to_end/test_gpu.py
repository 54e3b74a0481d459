"""The training verbs on an NVIDIA card. Not the kernels (`tests/kernels/`).

`pytest -m gpu` runs them where there is a card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import edgefm

pytestmark = pytest.mark.gpu
DATA = "phantom:opacity?n=120&size=64"
SETS = ("distill.epochs=4", "distill.views=2", "distill.batch=16")


@pytest.fixture(scope="module", autouse=True)
def card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA card")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet that learned on the card."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("teacher") / "run"
    model = timm.create_model("resnet18", num_classes=0)
    return edgefm.adapt(model, DATA, out, method="full", set=("adapt.epochs=6", "adapt.lr=0.001"), device="cuda")


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def probabilities(run: Path, device: str) -> np.ndarray:
    """Of the data's first 16 images, float64 `[16, 2]`, by torch in fp32."""
    from edgefm.data import load_data
    from edgefm.models import load_model
    from edgefm.runtime.decide import probabilities
    from edgefm.spec.recipe import DataRecipe
    from edgefm.train.images import Images
    from edgefm.train.precision import to_device
    from edgefm.train.predict import all_outputs, predict

    model, place = load_model(run), torch.device(device)
    images = Images(load_data(DATA, DataRecipe()))
    to_device(model.module, place)
    asked = predict(model.module, images, np.arange(16), model.preprocess, device=place, precision="fp32")
    logits = all_outputs(asked).logits
    assert logits is not None
    return np.asarray(probabilities(logits.cpu().numpy(), model.task))


def test_a_model_that_learned_on_the_card_says_the_same_on_a_processor(teacher: Path) -> None:
    evaluation = json.loads((teacher / "evaluation.json").read_bytes())
    assert evaluation["precision"]["train"] == "bf16"
    assert evaluation["val"]["auc"] > 0.7
    assert np.abs(probabilities(teacher, "cuda") - probabilities(teacher, "cpu")).max() < 5e-3  # convolutions in TF32


def test_a_student_learns_on_the_card_what_it_learns_on_a_processor(teacher: Path, tmp_path: Path) -> None:
    curves = []
    for device in ("cuda", "cpu"):
        out = edgefm.distill(str(teacher), DATA, tmp_path / device, "resnet10t", set=SETS, seed=3, device=device)
        curves.append([line["loss"] for line in history(out)])
    assert np.allclose(curves[0], curves[1], rtol=0.1), curves  # bf16 and fp32
    assert curves[0][-1] < 0.8 * curves[0][0]


def test_a_run_that_was_stopped_goes_on_to_the_same_end(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgefm.train.checkpoint import Checkpoint

    whole = edgefm.distill(str(teacher), DATA, tmp_path / "whole", "vit_tiny_patch16_224", set=SETS, device="cuda")
    written = Checkpoint.write

    def stop(self: Checkpoint, state: Any) -> None:
        written(self, state)
        if state.epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        edgefm.distill(str(teacher), DATA, tmp_path / "cut", "vit_tiny_patch16_224", set=SETS, device="cuda")
    monkeypatch.setattr(Checkpoint, "write", written)
    cut = edgefm.distill(str(teacher), DATA, tmp_path / "cut", "vit_tiny_patch16_224", set=SETS, device="cuda", resume=True)
    losses = [[line["loss"] for line in history(run)] for run in (whole, cut)]
    assert len(losses[1]) == 4
    assert np.allclose(losses[0], losses[1], rtol=0.02), losses  # a card adds up in an order of its own
