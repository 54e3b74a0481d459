"""BiomedCLIP's layout: a timm trunk, a projection and a text half, under open_clip's keys and configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from edgefm.errors import InputError
from edgefm.models import load_model

from .conftest import randomise

GEOMETRY = {"embed_dim": 32, "depth": 2, "num_heads": 2}
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def biomedclip(folder: Path, head: nn.Module, **vision: Any) -> nn.Module:
    """Write the folder; returns trunk and head as open_clip's `TimmModel` runs them."""
    trunk = randomise(timm.create_model("vit_base_patch16_224", num_classes=0, img_size=32, **GEOMETRY))
    randomise(head, seed=1)
    state = {f"visual.trunk.{key}": value for key, value in trunk.state_dict().items()}
    state |= {f"visual.head.{key}": value for key, value in head.state_dict().items()}
    state |= {"text.transformer.embeddings.position_ids": torch.arange(4), "logit_scale": torch.tensor(4.0)}
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": ""} | vision
    vision |= {"timm_proj": "linear", "image_size": 32, "timm_model_args": GEOMETRY}
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {}}, "preprocess_cfg": preprocess}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# BiomedCLIP\nlicense: none\n")
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    return nn.Sequential(trunk, head).eval()


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(32, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = timm.layers.Mlp(32, 64, 16, bias=(True, False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x)


@pytest.mark.parametrize("head", [Linear, Mlp], ids=["linear", "mlp"])
def test_biomedclips_image_tower_ends_in_its_projection(tmp_path: Path, head: type[nn.Module]) -> None:
    tower = biomedclip(tmp_path / "BiomedCLIP", head())
    loaded = load_model(tmp_path / "BiomedCLIP")
    with torch.no_grad():
        logits, embedding, _ = loaded.module(X)
        torch.testing.assert_close(embedding, tower(X))
    assert logits is None
    assert embedding.shape == (2, 16)
    assert loaded.licence == "mit"
    assert loaded.preprocess.mean == (0.48145466, 0.4578275, 0.40821073)
    assert (loaded.preprocess.size, loaded.preprocess.resize_to, loaded.preprocess.resize) == (32, 32, "shorter")


def test_a_tower_that_is_not_timms_is_refused(tmp_path: Path) -> None:
    biomedclip(tmp_path / "clip", Linear())
    config = {"model_cfg": {"vision_cfg": {"layers": 12, "width": 768, "patch_size": 16}}}
    (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="not a timm model"):
        load_model(tmp_path / "clip")


def test_a_tower_without_its_weights_is_refused(tmp_path: Path) -> None:
    biomedclip(tmp_path / "clip", Linear())
    torch.save({"logit_scale": torch.tensor(4.0)}, tmp_path / "clip" / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match=r"do not fit the architecture: \d+ missing \(trunk.cls_token"):
        load_model(tmp_path / "clip")
