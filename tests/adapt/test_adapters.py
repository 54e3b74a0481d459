"""Adapters in a model: which layers get one, that it starts as the model was, and that only they learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from edgefm.adapt.adapters import place
from edgefm.adapt.frozen_base import freeze
from edgefm.adapt.lora_linear import LoraLinear
from edgefm.errors import InputError, MissingExtra
from edgefm.models.probe import classifier_of
from edgefm.spec.recipe import LoraRecipe

from ..models.probe_cases import image
from .adapted import MAKERS, RANK, adapted, answers, classified

BLOCK = {
    "own_timm": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
    "virchow": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
    "clip_linear": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
    "clip_own": ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"],
    "clip_vision": [*(f"self_attn.{name}" for name in ("k_proj", "v_proj", "q_proj", "out_proj")), "mlp.fc1", "mlp.fc2"],
}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_attention_and_mlp_of_every_block_are_the_targets(tmp_path: Path, make) -> None:
    model, layers = adapted(make(tmp_path / "model"))
    block = {name.partition(".0.")[2] for name in layers if ".0." in name}
    if make.__name__ in BLOCK:
        assert block == set(BLOCK[make.__name__])
    assert len(layers) == 2 * len(block) >= 8  # two blocks
    assert classifier_of(model.module) not in layers.values()


@pytest.mark.parametrize("kind", ["float", "int8", "nf4"])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_model_with_new_adapters_answers_as_before(tmp_path: Path, make, kind) -> None:
    source = make(tmp_path / "model")
    before, model = classified(source), classified(source)
    place(model.module, LoraRecipe(rank=RANK), model.name, kind=kind)
    close = {"rtol": 1e-5, "atol": 1e-5} if kind == "float" else {"rtol": 0.5, "atol": 0.1}
    for one, other in zip(answers(before), answers(model)):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_only_adapters_and_the_classifier_learn_and_all_of_them(tmp_path: Path, make) -> None:
    model, layers = adapted(make(tmp_path / "model"))
    model.module(image(model)).logits.square().sum().backward()
    learning = {name for name, weight in model.module.named_parameters() if weight.requires_grad}
    assert len(learning) == 2 * len(layers) + 2
    assert all(weight.grad.abs().sum() > 0 for weight in model.module.parameters() if weight.requires_grad)
    assert all(weight.grad is None for weight in model.module.parameters() if not weight.requires_grad)


def test_what_is_kept_of_a_model_is_what_learns_and_little_else(tmp_path: Path) -> None:
    model, layers = adapted(MAKERS[0](tmp_path / "model"), kind="nf4")
    names = set(model.module.state_dict())
    assert {f"model.{name}.{factor}" for name in layers for factor in "ab"} < names
    assert not any(name.endswith((".qkv.bias", ".frozen", ".state0")) for name in names)


def test_the_same_seed_starts_alike_and_another_does_not(tmp_path: Path) -> None:
    source, found = MAKERS[0](tmp_path / "model"), []
    for seed in (0, 0, 1):
        model = classified(source)
        layers = place(model.module, LoraRecipe(rank=RANK), model.name, seed=seed, num=2)
        found.append(torch.cat([layer.a.flatten() for layer in layers.values()]))
        assert all(layer.a.abs().max() <= layer.in_features**-0.5 and not layer.b.any() for layer in layers.values())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len(found[0].unique()) == len(found[0])  # no two layers or adapters share their draws


@pytest.mark.parametrize(
    ("targets", "hit"),
    [
        (("attn.qkv",), ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]),
        (("qkv", "blocks.1.mlp.*"), ["blocks.0.attn.qkv", "blocks.1.attn.qkv", "blocks.1.mlp.fc1", "blocks.1.mlp.fc2"]),
        (("blocks.0.attn.proj",), ["blocks.0.attn.proj"]),
    ],
)
def test_targets_are_names_their_ends_and_patterns(tmp_path: Path, targets, hit) -> None:
    assert list(adapted(MAKERS[0](tmp_path / "model"), LoraRecipe(rank=2, targets=targets))[1]) == hit


def test_a_pattern_that_hits_nothing_is_answered_with_names_that_are_there(tmp_path: Path) -> None:
    source = MAKERS[0](tmp_path / "model")
    for targets in (("q_proj",), ("attn.qkv", "q_proj"), ("kv",), ("head",), ("patch_embed.proj",)):
        with pytest.raises(InputError, match=rf"is called {targets[-1]}; expected .*such as blocks\.0\.attn\.qkv"):
            adapted(source, LoraRecipe(rank=2, targets=targets))


def test_a_rank_above_a_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rank 33 is more than blocks\.0\.attn\.qkv of .* has, 32 to 96; expected at most 32"):
        adapted(MAKERS[0](tmp_path / "model"), LoraRecipe(rank=33))


def test_a_convolutional_network_without_linear_layers_is_refused() -> None:
    from edgefm.models.module import load_module
    from edgefm.models.probe import with_classifier
    from edgefm.spec.task import make_task

    loaded = load_module(timm.create_model("resnet10t", num_classes=0).eval(), name="resnet")
    model = with_classifier(loaded, make_task("multiclass", ("a", "b", "c")), 512)
    with pytest.raises(InputError, match="resnet has no linear layers beside its classifier; expected a transformer"):
        place(model.module, LoraRecipe(), model.name)


@pytest.mark.parametrize("architecture", ["beit_base_patch16_224", "swinv2_tiny_window8_256"])
def test_a_block_that_multiplies_by_the_weight_itself_learns_too(architecture: str) -> None:
    """BEiT's and Swin v2's fused qkv is never called."""
    small = {"embed_dim": 32, "num_heads": 2, "img_size": 32, "patch_size": 16, "depth": 1}
    if "swin" in architecture:
        small = {"embed_dim": 16, "num_heads": (2,), "depths": (1,), "img_size": 32, "patch_size": 4, "window_size": 4}
    inner = timm.create_model(architecture, num_classes=0, **small)
    for layer in inner.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)  # Swin v2 starts with blocks that change nothing
    qkv = next(layer for name, layer in inner.named_modules() if name.endswith("attn.qkv"))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = inner.eval()(x)
    new = LoraLinear(freeze(qkv.weight, "float"), qkv.bias, (qkv.in_features, qkv.out_features), rank=2, alpha=2)
    new.start(torch.Generator().manual_seed(0))
    parent = next(part for part in inner.modules() if getattr(part, "qkv", None) is qkv)
    parent.qkv = new
    torch.testing.assert_close(inner(x), before)
    nn.init.normal_(new.b)
    after = inner(x)
    assert not torch.allclose(after, before, atol=1e-3)
    after[:, ::2].sum().backward()
    assert new.a.grad.abs().sum() > 0 < new.b.grad.abs().sum()


def test_int8_is_nearest_and_zero_rows_stay_zero() -> None:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    base = freeze(weight, "int8")
    back = base.weight * base.state[0][:, None]
    assert ((back - weight).abs() <= base.state[0][:, None] / 2 * 1.0001).all()
    assert not back[2].any()


def test_nf4_without_bitsandbytes_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(MissingExtra, match=r"NF4 base .* needs bitsandbytes.*edgefm\[compress\]"):
        freeze(torch.zeros(4, 4), "nf4")
