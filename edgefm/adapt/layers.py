"""How much slower each layer learns than the classifier: lr_l = lr d^(L - l), l = 0 the embeddings, L the classifier.

Clark et al. 2020 (ELECTRA), Bao et al. 2022 (BEiT). Not the learning rate itself (`train/`).

What is a layer: in timm's architectures what timm says (`group_matcher`), so the blocks of a Swin or a ConvNeXt count one by
one over all stages; elsewhere the numbers in the parameters' names, in the order of the parameters. What comes after the last
block (a norm, a projection) learns as that block does. A classifier on top is a layer of its own.
"""

from __future__ import annotations

import re
from typing import Any

from timm.models import group_parameters
from torch import nn

from ..models.encoder import ImageTower, TimmEncoder
from ..models.probe import ProbeEncoder

# "encoder.layer.3" of "encoder.layer.3.norm1.weight", "stages.0.layers.1" of "stages.0.layers.1.layer.2.convolution.weight"
BLOCK = re.compile(r"(?:[^.]+\.)*?\d+(?:\.[^.]+\.\d+(?=\.))?(?=\.)")


def rate_scales(module: nn.Module, decay: float) -> dict[str, float]:
    """The factor of the learning rate by name of a parameter of `module`, 0 to 1.

    Args:
        module: with a classifier, as `models.probe.with_classifier` gives it.
        decay: d, 0 to 1; 1 lets all layers learn alike.
    """
    layers = _layers(module)
    last = max(layers.values())
    return {name: decay ** (last - layer) for name, layer in layers.items()}


def _layers(module: nn.Module) -> dict[str, int]:
    """The number of each parameter's layer, by name."""
    if isinstance(module, ProbeEncoder):
        below = _under("base", _layers(module.base))
        return below | {f"head.{name}": 1 + max(below.values()) for name, _ in module.head.named_parameters()}
    if isinstance(module, TimmEncoder):
        return _under("model", _of_timm(module.model))
    if isinstance(module, ImageTower):
        trunk = _under("trunk", _of_timm(module.trunk))
        return trunk | {f"projection.{name}": max(trunk.values()) for name, _ in module.projection.named_parameters()}
    return _of_names(module)


def _under(part: str, layers: dict[str, int]) -> dict[str, int]:
    return {f"{part}.{name}": layer for name, layer in layers.items()}


def _of_timm(model: Any) -> dict[str, int]:
    if not hasattr(model, "group_matcher"):
        return _of_names(model)
    found = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    return {name: found.get(name, max(found.values())) for name, _ in model.named_parameters()}


def _of_names(module: nn.Module) -> dict[str, int]:
    seen: dict[str, int] = {}
    layers = {}
    for name, _ in module.named_parameters():
        block = BLOCK.match(name)
        layers[name] = seen.setdefault(block[0], len(seen) + 1) if block else len(seen)
    return layers
