"""The nodes of torch models, and models cut at one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import nn

from edgefm.errors import InputError
from edgefm.models import list_taps, load_model
from edgefm.spec.preprocess import Preprocess

from .conftest import randomise

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_taps_of_a_transformer_are_its_blocks(tiny_vit_folder: Path) -> None:
    taps = list_taps(tiny_vit_folder)
    assert [(tap.name, tap.kind, tap.shape) for tap in taps] == [
        ("blocks.0", "Block", (-1, 5, 32)),
        ("blocks.1", "Block", (-1, 5, 32)),
    ]


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("densenet121", {"features.denseblock4": (-1, 1024, 2, 2), "features.transition1": (-1, 128, 8, 8)}),
        ("mobilenetv4_conv_small", {"blocks.0": (-1, 32, 16, 16), "blocks.4": (-1, 960, 2, 2)}),
        ("swin_tiny_patch4_window7_224", {"layers.0": (-1, 16, 16, 96), "layers.3": (-1, 2, 2, 768)}),
        ("resnet18", {"layer4.1": (-1, 512, 2, 2)}),
    ],
)
def test_the_taps_of_other_models_are_their_stages(name: str, some: dict[str, tuple[int, ...]]) -> None:
    options: dict[str, Any] = {"img_size": 64} if name.startswith("swin") else {}
    model = timm.create_model(name, num_classes=0, **options).eval()
    model.preprocess = Preprocess(size=64, resize_to=64)
    shapes = {tap.name: tap.shape for tap in list_taps(model)}
    assert some.items() <= shapes.items()


def test_the_taps_of_a_transformers_model_are_its_layers(tmp_path: Path) -> None:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    model = randomise(transformers.Dinov2WithRegistersModel(config))
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    taps = list_taps(tmp_path)
    assert [tap.shape for tap in taps] == [(-1, 9, 32)] * 2
    loaded = load_model(tmp_path, tap=taps[-1].name)
    x = torch.rand(2, 3, 28, 28)
    seen: list[torch.Tensor] = []
    model.encoder.layer[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))  # type: ignore[union-attr, index]
    with torch.no_grad():
        model(x)
        tokens = seen[0]
        torch.testing.assert_close(loaded.module(x).embedding, tokens[:, 5:].mean(dim=1))


def test_a_tapped_transformer_gives_the_mean_of_that_blocks_patch_tokens(tiny_vit_folder: Path, tiny_vit: nn.Module) -> None:
    loaded = load_model(tiny_vit_folder, tap="blocks.0")
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
        tokens = tiny_vit.forward_intermediates(X, indices=[0], norm=False, intermediates_only=True, output_fmt="NLC")[0]  # type: ignore[operator]
        torch.testing.assert_close(embedding, tokens.mean(dim=1))
    assert logits is None
    assert loaded.task.kind == "embedding"


def test_a_tap_that_is_not_there_is_refused_with_the_nearest(tiny_vit_folder: Path) -> None:
    with pytest.raises(InputError, match=r"tiny_vit has no node 'blocks.7'; expected one of blocks"):
        load_model(tiny_vit_folder, tap="blocks.7")
    with pytest.raises(InputError, match=r"has no node ''"):
        load_model(tiny_vit_folder, tap="")
