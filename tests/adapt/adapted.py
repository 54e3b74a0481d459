"""Models with adapters in them, for tests. Not tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from edgefm.adapt.adapters import Layers, place
from edgefm.adapt.lora_linear import LoraLinear
from edgefm.models import LoadedModel, load_model
from edgefm.models.probe import classifier_of, with_classifier
from edgefm.spec.recipe import LoraRecipe

from ..models.conftest import randomise
from ..models.probe_cases import (
    TASK,
    clip_linear,
    clip_own,
    image,
    own_timm,
    phikon_folder,
    rad_dino_classifier,
    virchow,
    width,
)
from ..models.test_hf_dir import TINY, write

RANK = 4


def clip_vision(folder: Path) -> str:
    """The vision half of a CLIP, in transformers' layout."""
    config = transformers.CLIPVisionConfig(image_size=28, patch_size=14, **TINY)
    return str(write(folder, randomise(transformers.CLIPVisionModel(config))))


MAKERS = (own_timm, virchow, phikon_folder, rad_dino_classifier, clip_vision, clip_linear, clip_own)


def classified(source: str) -> LoadedModel:
    """The model with a classifier of three classes."""
    loaded = load_model(source)
    return with_classifier(loaded, TASK, width(loaded))


def adapted(source: str, recipe: LoraRecipe | None = None, **options: Any) -> tuple[LoadedModel, Layers]:
    """The model with a classifier of three classes and adapters, nothing of them 0."""
    model = classified(source)
    recipe = recipe or LoraRecipe(rank=RANK, alpha=8.0)
    layers = place(model.module, recipe, model.name, **options)
    stir(model.module)
    return model, layers


@torch.no_grad()
def stir(module: nn.Module, seed: int = 3) -> None:
    """Random adapters and a random classifier."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, LoraLinear):
            layer.a.copy_(torch.randn(layer.a.shape, generator=generator) / layer.in_features**0.5)
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) / 2)
    for value in classifier_of(module).parameters():
        value.copy_(torch.randn(value.shape, generator=generator) / 4)


@torch.no_grad()
def answers(model: LoadedModel, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and embedding."""
    outputs = model.module(image(model, count))
    assert outputs.logits is not None
    return outputs.logits, outputs.embedding
