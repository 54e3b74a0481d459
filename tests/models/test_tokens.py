"""The grid of features before pooling, against what each library says of its own model; and that nothing gives it unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from torch import nn

from edgefm.models import load_model
from edgefm.models.encoder import TimmEncoder, timm_grid
from edgefm.models.loaded import LoadedModel, Outputs

from .conftest import TINY_VIT, randomise
from .test_frozen import X as PIXELS
from .test_frozen import contract, graph, reference
from .test_open_clip import Linear, biomedclip

SMALL_SWIN = {"img_size": 64, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}


def both(module: nn.Module, x: torch.Tensor) -> Outputs:
    """What a module answers with its tokens; holds it to the same answers as without them, which are the default."""
    with torch.no_grad():
        plain = module(x)
        assert plain.tokens is None
        module.tokens = True  # type: ignore[assignment]
        found = module(x)
    assert (found.logits is None) == (plain.logits is None)
    assert found.logits is None or torch.equal(found.logits, plain.logits)
    assert torch.equal(found.embedding, plain.embedding)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {}),
        ("vit_tiny_patch16_224", TINY_VIT | {"reg_tokens": 4, "no_embed_class": True}),
        ("vit_tiny_patch16_224", TINY_VIT | {"class_token": False, "global_pool": "avg"}),
        ("test_resnet", {}),
        ("test_convnext", {}),
        ("mobilenetv4_conv_small", {}),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN),
    ],
    ids=["ViT", "ViT with registers", "ViT without class token", "ResNet", "ConvNeXt", "MobileNetV4", "Swin, channels last"],
)
def test_a_timm_models_grid_is_its_last_feature_map(name: str, options: dict[str, Any]) -> None:
    model = randomise(timm.create_model(name, **options))
    side = options.get("img_size") or 64 if name != "test_vit" else 160
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    tokens = both(TimmEncoder(model, architecture=name, arguments={}).eval(), x).tokens
    settings = {"indices": 1, "output_fmt": "NCHW", "intermediates_only": True}
    with torch.no_grad():
        (expected,) = model.forward_intermediates(x, norm=name not in ("test_resnet", "mobilenetv4_conv_small"), **settings)  # type: ignore[operator]
    assert tokens is not None
    torch.testing.assert_close(tokens, expected)


def test_a_square_channels_last_plane_is_told_by_the_model_not_by_its_sizes() -> None:
    plane = torch.rand(2, 5, 5, 5)
    model = nn.Identity()
    assert torch.equal(timm_grid(model, plane), plane)  # type: ignore[arg-type]
    model.output_fmt = "NHWC"  # type: ignore[assignment]
    assert torch.equal(timm_grid(model, plane), plane.permute(0, 3, 1, 2))  # type: ignore[arg-type]
    assert timm_grid(model, [plane]) is None


def test_a_dinov2_with_registers_gives_its_patches_only(tmp_path: Path) -> None:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=42, patch_size=14
    )
    model = randomise(transformers.Dinov2WithRegistersModel(config))
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    x = torch.rand(2, 3, 42, 42)
    tokens = both(load_model(tmp_path).module, x).tokens
    with torch.no_grad():
        patches = model(x).last_hidden_state[:, 5:]
    assert tokens is not None
    assert tokens.shape == (2, 32, 3, 3)
    torch.testing.assert_close(tokens[:, :, 1, 2], patches[:, 5])


def test_biomedclips_grid_is_that_of_its_trunk_and_not_projected(tmp_path: Path) -> None:
    trunk: Any = biomedclip(tmp_path / "BiomedCLIP", Linear())[0]  # type: ignore[index]
    x = torch.rand(2, 3, 32, 32)
    tokens = both(load_model(tmp_path / "BiomedCLIP").module, x).tokens
    with torch.no_grad():
        features = trunk.forward_features(x)
    assert tokens is not None
    assert tokens.shape == (2, 32, 2, 2)
    torch.testing.assert_close(tokens[:, :, 1, 0], features[:, 3])


def test_a_tapped_block_gives_the_grid_of_that_block(tiny_vit_folder: Path, tiny_vit: Any) -> None:
    x = torch.rand(2, 3, 32, 32)
    tokens = both(load_model(tiny_vit_folder, tap="blocks.0").module, x).tokens
    with torch.no_grad():
        (expected,) = tiny_vit.forward_intermediates(x, indices=[0], norm=False, intermediates_only=True)
    assert tokens is not None
    torch.testing.assert_close(tokens, expected)


def test_a_tapped_plane_of_a_frozen_graph_is_its_grid(tmp_path: Path) -> None:
    contract(tmp_path)
    file = graph(tmp_path / "net.onnx")
    tokens = both(load_model(file, tap="features").module, PIXELS).tokens
    (expected,) = reference(file, PIXELS.numpy(), "features")
    assert tokens is not None
    np.testing.assert_allclose(tokens, expected, atol=1e-5)


def test_a_frozen_graph_that_answers_vectors_has_no_grid(tmp_path: Path) -> None:
    contract(tmp_path)
    assert both(load_model(graph(tmp_path / "net.onnx")).module, PIXELS).tokens is None


def test_a_users_module_may_bring_its_own_grid() -> None:
    from edgefm.models.module import load_module
    from edgefm.spec.preprocess import Preprocess

    class Brings(nn.Module):
        preprocess = Preprocess(size=8, resize_to=8)

        def forward(self, x: torch.Tensor) -> Outputs:
            return Outputs(None, x.mean(dim=(2, 3)), x)

    loaded: LoadedModel = load_module(Brings())
    assert torch.equal(loaded.module(PIXELS).tokens, PIXELS)
