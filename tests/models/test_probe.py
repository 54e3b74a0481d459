"""Where a classifier goes, on models of every kind. Not its run directory (`test_probe_dir.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from edgefm.models import list_taps, load_model
from edgefm.models.base_dir import savable
from edgefm.models.encoder import TimmEncoder
from edgefm.models.probe import ProbeEncoder, classifier_of, with_classifier

from .probe_cases import (
    SAVABLE,
    TASK,
    Make,
    function,
    image,
    own_timm,
    phikon_folder,
    probed,
    save,
)


@pytest.mark.parametrize("make", SAVABLE, ids=lambda make: make.__name__)
def test_a_classifier_stands_on_the_models_own_embedding(tmp_path: Path, make: Make) -> None:
    loaded, probe = probed(make(tmp_path / "model"))
    x = image(loaded)
    with torch.no_grad():
        logits, embedding, _ = probe.module(x)
        torch.testing.assert_close(embedding, loaded.module(x).embedding)
        torch.testing.assert_close(logits, classifier_of(probe.module)(embedding))
    assert isinstance(probe.module, TimmEncoder) == (make is own_timm)


def test_python_that_says_too_little_about_a_timm_model_is_noticed(tmp_path: Path) -> None:
    told = timm.create_model("test_vit", num_classes=0, img_size=64)
    assert savable(load_model(told).module)
    untold = timm.create_model("test_vit", num_classes=0)
    untold.blocks = untold.blocks[:1]
    loaded = load_model(untold)
    assert not savable(loaded.module)
    assert isinstance(with_classifier(loaded, TASK, 64).module, ProbeEncoder)


def test_a_classifier_is_the_same_for_the_same_seed_and_leaves_the_model_alone(tmp_path: Path) -> None:
    loaded = load_model(own_timm(tmp_path / "model"))
    before = torch.random.get_rng_state()
    one, two, other = (with_classifier(loaded, TASK, 32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [classifier_of(each.module).weight for each in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std() < 0.02
    assert loaded.module(image(loaded)).logits is None


def test_tokens_of_the_model_under_a_classifier_are_there(tmp_path: Path) -> None:
    probe: Any = probed(phikon_folder(tmp_path / "model"))[1].module
    assert probe(torch.zeros(1, 3, 28, 28)).tokens is None
    probe.tokens = True
    assert probe(torch.zeros(1, 3, 28, 28)).tokens.shape == (1, 32, 2, 2)
    assert not hasattr(probed(function(tmp_path / "code"))[1].module, "tokens")


def test_nodes_under_a_classifier_keep_their_names(tmp_path: Path) -> None:
    loaded, probe = probed(phikon_folder(tmp_path / "model"))
    out = save(tmp_path / "run", None, loaded, probe)
    names = [tap.name for tap in list_taps(out)]
    assert names == [tap.name for tap in list_taps(str(tmp_path / "model"))]
    assert names
    x = image(loaded)
    with torch.no_grad():
        found = load_model(out, tap=names[0]).module(x).embedding
        torch.testing.assert_close(found, load_model(str(tmp_path / "model"), tap=names[0]).module(x).embedding)
