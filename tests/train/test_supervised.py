"""Fitting a classifier to labels: a run directory that loads again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgefm.errors import InputError
from edgefm.models import build_student, load_model
from edgefm.spec.task import make_task
from edgefm.train.supervised import fit_supervised

from .toys import BINARY, GREY, dark_and_bright


def test_a_fitted_model_loads_again_with_its_task_and_its_weights(tmp_path: Path) -> None:
    dataset = dark_and_bright(6, 4)
    model = build_student("test_efficientnet", task=BINARY, preprocess=GREY, seed=0)
    out = fit_supervised(model, dataset, tmp_path / "run", epochs=1, seed=3)
    loaded = load_model(out)
    assert loaded.task == BINARY
    assert loaded.preprocess == model.preprocess
    assert [(each.role, each.sha256) for each in loaded.ancestors] == [("data", dataset.sha256())]
    x = torch.rand(2, 1, 160, 160)
    with torch.no_grad():
        assert torch.allclose(loaded.module(x).logits, model.module(x).logits, atol=1e-5)
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json",
        "edgefm.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.yaml",
    ]
    assert "epochs: 1" in (out / "recipe.yaml").read_text()
    with pytest.raises(InputError, match="exists already"):
        fit_supervised(model, dataset, out, epochs=1)


def test_other_labels_than_the_model_answers_are_refused(tmp_path: Path) -> None:
    model = build_student("test_efficientnet", task=make_task("binary", ("bright", "dark")), preprocess=GREY, seed=0)
    with pytest.raises(InputError, match="labelled dark, bright"):
        fit_supervised(model, dark_and_bright(4, 2), tmp_path / "run", epochs=1)
    assert not list(tmp_path.iterdir())
