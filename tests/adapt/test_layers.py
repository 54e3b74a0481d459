"""Which layer a parameter belongs to, in the architectures that medical encoders have."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import transformers
from timm.optim import param_groups_layer_decay
from torch import nn

from edgefm.adapt.layers import rate_scales
from edgefm.models import load_model
from edgefm.models.encoder import ImageTower, TimmEncoder, TransformersEncoder
from edgefm.models.probe import ProbeEncoder

VIT = {"img_size": 42, "patch_size": 14, "embed_dim": 32, "depth": 3, "num_heads": 2}
HF = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def timm_encoder(name: str, **arguments: object) -> TimmEncoder:
    return TimmEncoder(timm.create_model(name, **arguments), architecture=name, arguments=dict(arguments))


def by_layer(scales: dict[str, float], decay: float) -> dict[int, list[str]]:
    """How many layers below the classifier each parameter is."""
    found: dict[int, list[str]] = {}
    for name, scale in scales.items():
        for below in range(60):
            if scale == pytest.approx(decay**below):
                found.setdefault(below, []).append(name)
    assert sum(map(len, found.values())) == len(scales)
    return found


def test_a_vits_embeddings_are_layer_0_its_blocks_follow_and_the_classifier_learns_at_the_whole_rate() -> None:
    module = timm_encoder("vit_giant_patch14_224", **VIT, reg_tokens=4, num_classes=2)
    found = by_layer(rate_scales(module, 0.5), 0.5)
    assert found[0] == ["model.head.weight", "model.head.bias"]
    embeddings = {"cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert set(found[4]) == {f"model.{name}" for name in embeddings}
    for block in range(3):
        names = [name for name in found[3 - block] if not name.startswith("model.norm.")]
        assert names
        assert all(name.startswith(f"model.blocks.{block}.") for name in names)
    assert set(rate_scales(module, 0.5)) == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_resnet"])
def test_the_layers_of_a_timm_model_are_those_that_timm_decays(name: str) -> None:
    module = timm_encoder(name, num_classes=3)
    scales = rate_scales(module, 0.7)
    names = {id(weight): f"model.{name}" for name, weight in module.model.named_parameters()}
    for group in param_groups_layer_decay(module.model, layer_decay=0.7):
        for weight in group["params"]:
            assert scales[names[id(weight)]] == pytest.approx(group["lr_scale"])


def test_blocks_of_a_swin_count_over_its_stages() -> None:
    stated = {"img_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 2}
    found = by_layer(rate_scales(timm_encoder("swin_tiny_patch4_window7_224", num_classes=3, **stated), 0.5), 0.5)
    blocks = [layer for layer in sorted(found, reverse=True) if any(".blocks." in name for name in found[layer])]
    assert [name.split(".attn")[0] for layer in blocks for name in found[layer] if name.endswith("attn.qkv.weight")] == [
        f"model.layers.{stage}.blocks.{block}" for stage, block in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0))
    ]


def test_a_timm_model_without_a_grouping_of_its_own_counts_by_names() -> None:
    with torch.device("meta"):
        module = timm_encoder("pit_ti_224", num_classes=2)
    assert not hasattr(module.model, "group_matcher")
    scales = rate_scales(module, 0.5)
    blocks = [f"model.transformers.{stage}.blocks.{block}.norm1.weight" for stage, block in ((0, 0), (0, 1), (1, 0), (2, 3))]
    rates = [scales[name] for name in blocks]
    assert rates == sorted(rates)
    assert len(set(rates)) == len(rates)
    assert scales["model.patch_embed.conv.weight"] < rates[0]


def test_a_classifier_on_top_is_a_layer_of_its_own() -> None:
    base = timm_encoder("vit_huge_patch14_224", **VIT, num_classes=0)
    found = by_layer(rate_scales(ProbeEncoder(base, nn.Linear(64, 2)), 0.5), 0.5)
    assert found[0] == ["head.weight", "head.bias"]
    assert any(name.startswith("base.model.blocks.2.") for name in found[1])
    assert "base.model.pos_embed" in found[4]


@pytest.mark.parametrize("kind", ["vit", "dinov2_with_registers"])
def test_a_transformers_vits_layers_are_read_off_the_names(kind: str) -> None:
    config = transformers.CONFIG_MAPPING[kind](image_size=28, patch_size=14, **HF)
    body = transformers.MODEL_MAPPING[type(config)](config, **({"add_pooling_layer": False} if kind == "vit" else {}))
    module = ProbeEncoder(TransformersEncoder(body, None, pooling="class", prefix=1), nn.Linear(32, 2))
    found = by_layer(rate_scales(module, 0.5), 0.5)
    assert all(".embeddings." in name for name in found[3])
    for block, below in ((0, 2), (1, 1)):
        assert any(f".{block}." in name for name in found[below])
        assert not any(f".{1 - block}.attention" in name for name in found[below])
    assert "base.body.layernorm.weight" in found[1]
    assert sorted(found) == [0, 1, 2, 3]


def test_a_transformers_convnet_counts_its_blocks_over_the_stages() -> None:
    body = transformers.ConvNextV2Model(transformers.ConvNextV2Config(hidden_sizes=[8, 8], depths=[2, 1], num_stages=2))
    module = ProbeEncoder(TransformersEncoder(body, None, pooling="pooler", prefix=0), nn.Linear(8, 2))
    found = by_layer(rate_scales(module, 0.5), 0.5)
    order = [found[layer][0].removeprefix("base.body.encoder.") for layer in sorted(found, reverse=True)]
    assert order[0].startswith("base.body.embeddings.")
    assert [name.rpartition(".dwconv")[0] for name in order if "dwconv" in name] == [
        "stages.0.layers.0",
        "stages.0.layers.1",
        "stages.1.layers.0",
    ]


def test_the_projection_of_an_open_clip_tower_learns_as_its_last_block() -> None:
    trunk = timm.create_model("vit_base_patch16_224", num_classes=0, img_size=32, embed_dim=32, depth=2, num_heads=2)
    tower = ImageTower(trunk, nn.Sequential(nn.Linear(32, 16)), architecture="vit_base_patch16_224", arguments={})
    found = by_layer(rate_scales(ProbeEncoder(tower, nn.Linear(16, 2)), 0.5), 0.5)
    assert "base.projection.0.weight" in found[1]
    assert any("blocks.1" in name for name in found[1])


def test_without_decay_all_layers_learn_alike(vit: Path) -> None:
    module = ProbeEncoder(load_model(vit).module, nn.Linear(32, 2))
    assert set(rate_scales(module, 1.0).values()) == {1.0}
    assert isinstance(module.base, TimmEncoder)
    assert torch.is_tensor(module.base.model.pos_embed)
