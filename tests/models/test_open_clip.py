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


def test_a_tower_that_is_no_transformer_or_another_one_is_refused(tmp_path: Path) -> None:
    biomedclip(tmp_path / "clip", Linear())
    for vision, said in (
        ({"layers": [3, 4, 6, 3], "width": 64}, "neither a timm model nor a vision transformer"),
        (
            {"layers": 2, "width": 64, "patch_size": 16, "attentional_pool": True},
            "has attentional_pool True; expected CLIP's own",
        ),
        ({"layers": 2, "width": 64, "patch_size": 16, "no_ln_pre": True}, "has no_ln_pre True"),
    ):
        (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"vision_cfg": vision}}))
        with pytest.raises(InputError, match=said):
            load_model(tmp_path / "clip")


def test_a_tower_without_its_weights_is_refused(tmp_path: Path) -> None:
    biomedclip(tmp_path / "clip", Linear())
    torch.save({"logit_scale": torch.tensor(4.0)}, tmp_path / "clip" / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match=r"do not fit the architecture: \d+ missing \(trunk.cls_token"):
        load_model(tmp_path / "clip")


class OwnVit(nn.Module):
    """open_clip's `VisionTransformer`, its names and its steps, with torch's attention."""

    def __init__(self, quick: bool, width: int = 32, heads: int = 2, layers: int = 2, patch: int = 16, side: int = 32) -> None:
        super().__init__()
        self.quick = quick
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(nn.Module() for _ in range(layers))
        for block in self.transformer.resblocks:
            block.ln_1, block.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            block.attn = nn.MultiheadAttention(width, heads, batch_first=True)
            block.mlp = nn.Module()
            block.mlp.c_fc, block.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.proj = nn.Parameter(torch.zeros(width, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            y = block.ln_1(x)
            x = x + block.attn(y, y, y, need_weights=False)[0]
            y = block.mlp.c_fc(block.ln_2(x))
            y = y * torch.sigmoid(1.702 * y) if self.quick else nn.functional.gelu(y)
            x = x + block.mlp.c_proj(y)
        return self.ln_post(x[:, 0]) @ self.proj


def own_clip(folder: Path, quick: bool = False) -> nn.Module:
    """Write a folder of CLIP's own tower as open_clip writes it; returns the tower."""
    tower = OwnVit(quick)
    with torch.no_grad():
        for value in tower.state_dict().values():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())) / 4)
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    folder.mkdir()
    config = {"model_cfg": {"embed_dim": 16, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": {}}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {f"visual.{key}": value for key, value in tower.state_dict().items()}
    torch.save(state | {"logit_scale": torch.tensor(4.0)}, folder / "open_clip_pytorch_model.bin")
    return tower.eval()


@pytest.mark.parametrize("quick", [False, True], ids=["gelu", "quickgelu"])
def test_clips_own_tower_answers_as_open_clips_with_a_fused_qkv(tmp_path: Path, quick: bool) -> None:
    tower = own_clip(tmp_path / "clip", quick)
    loaded = load_model(tmp_path / "clip")
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(X).embedding, tower(X), rtol=1e-4, atol=1e-5)
    assert "trunk.blocks.1.attn.qkv.weight" in loaded.module.state_dict()


@pytest.mark.peer
def test_clips_own_tower_answers_as_open_clip_does(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    for quick in (False, True):
        own_clip(tmp_path / str(quick), quick)
        config = json.loads((tmp_path / str(quick) / "open_clip_config.json").read_text())["model_cfg"]
        text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
        model = open_clip.model.CLIP(**config | {"text_cfg": text}).eval()
        state = torch.load(tmp_path / str(quick) / "open_clip_pytorch_model.bin", weights_only=True)
        assert not model.load_state_dict(state, strict=False).unexpected_keys
        with torch.no_grad():
            wanted = model.encode_image(X)
            torch.testing.assert_close(load_model(tmp_path / str(quick)).module(X).embedding, wanted, rtol=1e-4, atol=1e-5)
