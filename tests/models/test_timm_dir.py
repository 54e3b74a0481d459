"""Folders with timm's config.json: what it states, what it leaves open. Encoders of known families: test_encoders.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.models import load_model
from edgefm.models.timm_dir import load_timm_folder

from .conftest import TINY_VIT, write_timm_folder

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def refusal(source: object) -> str:
    with pytest.raises(InputError) as caught:
        load_model(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_size_among_the_arguments_goes_before_the_one_of_a_fixed_configuration(tmp_path: Path, tiny_vit: nn.Module) -> None:
    folder = write_timm_folder(
        tmp_path / "m", "vit_tiny_patch16_224", tiny_vit, num_classes=3, cfg={"input_size": [3, 224, 224]}, model_args=TINY_VIT
    )
    loaded = load_model(folder)
    assert loaded.preprocess.size == 32
    assert loaded.module(X).logits.shape == (2, 3)


def test_a_caller_that_states_the_pooling_is_believed_over_the_table(tiny_vit_folder: Path) -> None:
    config = json.loads((tiny_vit_folder / "config.json").read_text())
    plain = load_timm_folder(tiny_vit_folder, config)
    both = load_timm_folder(tiny_vit_folder, config, pooling="class+patches")
    with torch.no_grad():
        assert plain.module(X).embedding.shape == (2, 32)
        assert both.module(X).embedding.shape == (2, 64)
        torch.testing.assert_close(both.module(X).embedding[:, :32], plain.module(X).embedding)


def test_the_hub_id_is_its_name_and_is_told_where_something_is_wrong(tiny_vit_folder: Path) -> None:
    config = json.loads((tiny_vit_folder / "config.json").read_text())
    assert load_timm_folder(tiny_vit_folder, config, hub_id="lab/encoder").name == "lab/encoder"
    config["model_args"] = {"colour": "red"}
    with pytest.raises(InputError, match="model_args in lab/encoder"):
        load_timm_folder(tiny_vit_folder, config, hub_id="lab/encoder")


def test_arguments_that_the_architecture_does_not_take_are_refused(tmp_path: Path, tiny_vit: nn.Module) -> None:
    folder = write_timm_folder(tmp_path / "odd", "vit_tiny_patch16_224", tiny_vit, model_args={"colour": "red"})
    assert "unexpected keyword argument 'colour'" in refusal(folder)


def test_a_timm_folder_answers_as_timm_does(tiny_vit_folder: Path, tiny_vit: nn.Module) -> None:
    reference = timm.create_model(f"local-dir:{tiny_vit_folder}", pretrained=True).eval()
    loaded = load_model(tiny_vit_folder)
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
        torch.testing.assert_close(logits, reference(X))
        torch.testing.assert_close(embedding, reference.forward_head(reference.forward_features(X), pre_logits=True))  # type: ignore[operator]
    assert loaded.task.labels == ("0", "1", "2")
    assert loaded.name == "tiny_vit"
    assert loaded.sha256 == hashlib.sha256((tiny_vit_folder / "model.safetensors").read_bytes()).hexdigest()
    assert load_model(f"local-dir:{tiny_vit_folder}").sha256 == loaded.sha256


def test_a_legacy_config_in_one_piece_loads(tiny_vit_folder: Path) -> None:
    file = tiny_vit_folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config.pop("pretrained_cfg"), **config}))
    assert load_model(tiny_vit_folder).task.kind == "multiclass"


def test_every_weight_is_learnable_and_the_model_is_in_eval_mode(tiny_vit_folder: Path) -> None:
    module = load_model(tiny_vit_folder).module
    assert not any(part.training for part in module.modules())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in module.parameters())
