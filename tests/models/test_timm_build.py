"""An empty timm model: nothing computed twice, nothing lost on the meta device, nothing asked of the network."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers.mlp import SwiGLUPacked

from edgefm.errors import InputError
from edgefm.models.timm_build import build_timm, rebuilds

from .conftest import TINY_VIT


@pytest.mark.parametrize("arguments", [{"colour": "red"}, {"patch_size": 0}, {"depth": "deep"}])
def test_arguments_that_build_nothing_are_refused_with_where_they_stand(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"cannot be built with the model_args in HERE .* Correct its config"):
        build_timm("vit_tiny_patch16_224", arguments, {}, "HERE")


def test_a_model_is_built_without_its_random_numbers_where_that_loses_nothing() -> None:
    model = build_timm("vit_tiny_patch16_224", TINY_VIT, {}, "here")
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "swin_tiny_patch4_window7_224", "test_efficientnet"])
def test_buffers_that_no_weights_file_holds_are_never_lost(name: str) -> None:
    model = build_timm(name, {}, {}, "here")
    stored = set(model.state_dict())
    for key, value in model.named_buffers():
        assert key in stored or value.device.type != "meta", key


def test_packed_swiglu_comes_by_its_name() -> None:
    model = build_timm("vit_tiny_patch16_224", TINY_VIT | {"mlp_layer": "SwiGLUPacked"}, {}, "here")
    assert type(model.blocks[0].mlp) is type(SwiGLUPacked(8, 8))
    assert model.blocks[0].mlp.fc1.out_features == 2 * model.blocks[0].mlp.fc2.in_features  # gate and value in one


def test_a_configuration_cannot_make_timm_look_for_weights() -> None:
    cfg = {
        "url": "https://example.org/w.pth",
        "hf_hub_id": "lab/x",
        "file": "/etc/passwd",
        "custom_load": True,
        "mean": [0.1] * 3,
    }
    model = build_timm("test_vit", {}, cfg, "here")
    assert model.pretrained_cfg["mean"] == [0.1] * 3
    assert not model.pretrained_cfg.get("url")
    assert not model.pretrained_cfg.get("hf_hub_id")
    assert not model.pretrained_cfg.get("file")


def test_name_and_arguments_rebuild_a_model_or_say_too_little() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, **TINY_VIT)
    assert rebuilds(model, "vit_tiny_patch16_224", {"num_classes": 2, **TINY_VIT})
    assert not rebuilds(model, "vit_tiny_patch16_224", {"num_classes": 3, **TINY_VIT})
    assert not rebuilds(model, "vit_tiny_patch16_224", {"num_classes": 2})
    assert not rebuilds(model, "vit_tiny_patch16_224", {"num_classes": 2, **TINY_VIT, "norm_layer": torch.nn.LayerNorm})
    assert not rebuilds(model, "no_such_model", {})
