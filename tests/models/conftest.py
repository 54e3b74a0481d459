"""Small random checkpoints in the layouts and keys in which the real ones are published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

CFG = {"input_size": [3, 32, 32], "fixed_input_size": True, "crop_pct": 1.0, "interpolation": "bicubic"}
TINY_VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}

WriteTimm = Callable[..., Path]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every weight, also those that start as zeros or ones, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 0.05)
    return model.eval()


def write_timm_folder(
    folder: Path,
    architecture: str,
    model: nn.Module,
    *,
    weights: str = "model.safetensors",
    cfg: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A folder as `timm.push_to_hf_hub` leaves it; weights as safetensors or as a pickle by their suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architecture": architecture, "num_classes": 0, "pretrained_cfg": {**CFG, **(cfg or {})}} | config
    (folder / "config.json").write_text(json.dumps(config))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if weights.endswith(".safetensors"):
        save_file(state, folder / weights)
    else:
        torch.save(state, folder / weights)
    return folder


@pytest.fixture
def tiny_vit() -> nn.Module:
    return randomise(timm.create_model("vit_tiny_patch16_224", num_classes=3, **TINY_VIT))


@pytest.fixture
def tiny_vit_folder(tmp_path: Path, tiny_vit: nn.Module) -> Path:
    return write_timm_folder(tmp_path / "tiny_vit", "vit_tiny_patch16_224", tiny_vit, num_classes=3, model_args=TINY_VIT)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An empty hub cache on a machine that must not ask the network; `hub_cache(repo)` makes a model's folder in it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def folder(repo: str) -> Path:
        root = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("0" * 40)
        snapshot = root / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        return snapshot

    return folder
