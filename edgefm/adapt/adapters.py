"""Adapters placed in a model, read out of it and put into it. Not the layer (`lora_linear.py`).

Not the file either (`models/peft_format.py`). After placing, only the adapters and the classifier want gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..errors import InputError
from ..models.peft_format import Adapter, library_names
from ..models.probe import ProbeEncoder, classifier_of
from ..spec.recipe import LoraRecipe
from .frozen_base import Kind, freeze
from .lora_linear import Chosen, LoraLinear, start_all
from .targets import find_targets

Layers = dict[str, LoraLinear]


def place(
    module: nn.Module,
    recipe: LoraRecipe,
    name: str,
    *,
    kind: Kind = "float",
    num: int = 1,
    chosen: Chosen | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> Layers:
    """Put adapters into `module`, in place, and freeze the rest but for the classifier.

    Args:
        module: with a classifier. name: the model's.
        kind: of the base. An int8 or NF4 one takes the place of the float weight, which is let go at once.
        num: adapters per layer. chosen: of several, which an image uses.
        device: where the base is made int8 or NF4; None for where it is.

    Returns:
        the new layers by their names in the library's model.

    Raises:
        InputError: a pattern hits nothing, or the rank is more than a layer has. MissingExtra: bitsandbytes is not installed.
    """
    targets = find_targets(module, recipe.targets, name)
    for target, layer in targets.items():
        least = min(layer.in_features, layer.out_features)
        if recipe.rank > least:
            raise InputError(
                f"adapt.lora.rank {recipe.rank} is more than {target} of {name} has, "
                f"{layer.in_features} to {layer.out_features}",
                expected=f"at most {least}",
                do="lower the rank, or name other layers in adapt.lora.targets",
            )
    for weight in module.parameters():
        weight.requires_grad_(False)
    for weight in classifier_of(module).parameters():
        weight.requires_grad_(True)
    layers = {}
    for target, layer in targets.items():
        where = layer.weight.device if device is None else device
        base = freeze(layer.weight if kind == "float" else layer.weight.to(where), kind)
        if kind != "float":
            layer.weight.data = layer.weight.data.new_empty(0)  # else a ViT-g would be in memory twice
        bias = None if layer.bias is None else layer.bias.detach().to(base.weight.device)
        layers[target] = LoraLinear(
            base,
            bias,
            (layer.in_features, layer.out_features),
            rank=recipe.rank,
            alpha=recipe.alpha or recipe.rank,
            dropout=recipe.dropout,
            num=num,
            chosen=chosen,
        )
    start_all(list(layers.values()), seed)
    exchange(module, {layer: layers[target] for target, layer in targets.items()})
    return layers


def exchange(module: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put other parts in the place of some, in place."""
    for part in list(module.modules()):
        for child, layer in list(part.named_children()):
            if layer in new:
                setattr(part, child, new[layer].train(layer.training))


def layers_of(module: nn.Module) -> Layers:
    """The adapted layers of a model by their names in the library's model."""
    return {name: layer for name, layer in library_names(module).items() if isinstance(layer, LoraLinear)}


def read_out(module: nn.Module, recipe: LoraRecipe, number: int = 0, base: str | None = None) -> Adapter:
    """One adapter as tensors on the CPU, with the classifier where that is a part of the library's model.

    Args:
        module: with adapters. number: which of several. base: where the model is that it was placed on.
    """
    layers = layers_of(module)
    name, head = _inner_head(module)
    return Adapter(
        layers={name: (layer.a[number].detach().cpu(), layer.b[number].detach().cpu()) for name, layer in layers.items()},
        rank=recipe.rank,
        alpha=recipe.alpha or recipe.rank,
        dropout=recipe.dropout,
        whole={f"{name}.{key}": value.cpu() for key, value in head.items()},
        modules=(name,) if head else (),
        base=base,
    )


@torch.no_grad()
def put_in(module: nn.Module, adapter: Adapter, number: int = 0) -> None:
    """Give a model's adapted layers, and its classifier if the adapter has one, the values of an adapter from disk.

    Raises:
        InputError: other layers, another rank, another alpha or other shapes than the model has; a classifier of other classes.
    """
    layers = layers_of(module)
    apart = sorted(set(layers) ^ set(adapter.layers))
    if apart:
        raise InputError(
            f"the adapter has {len(adapter.layers)} layers and the model {len(layers)}; {apart[0]} is not in both",
            do="name the adapter's layers in adapt.lora.targets",
        )
    for name, layer in layers.items():
        found = [list(value.shape) for value in adapter.layers[name]]
        own = [list(value.shape[1:]) for value in (layer.a, layer.b)]
        if found != own:
            raise InputError(f"the adapter's factors of {name} are {found[0]}, {found[1]}", expected=f"{own[0]} and {own[1]}")
        if layer.scale != adapter.scale:
            raise InputError(f"the adapter counts {adapter.scale:g} times, {name} {layer.scale:g} times", expected="one alpha")
    name, head = _inner_head(module)
    own_head = {f"{name}.{key}": value for key, value in head.items()}
    for key, value in adapter.whole.items():
        if key not in own_head or own_head[key].shape != value.shape:
            shape = list(own_head[key].shape) if key in own_head else "no such weight"
            raise InputError(f"the adapter brings {key} {list(value.shape)}", expected=f"{shape} as in the model")
        own_head[key].copy_(value)
    for name, layer in layers.items():
        for own_factor, value in zip((layer.a, layer.b), adapter.layers[name]):
            own_factor[number].copy_(value)


def _inner_head(module: nn.Module) -> tuple[str, dict[str, torch.Tensor]]:
    """Name and tensors of a classifier inside the library's model; none of one on top."""
    if isinstance(module, ProbeEncoder):
        return "", {}
    head = classifier_of(module)
    name = next(name for name, part in library_names(module).items() if part is head)
    return name, {key: value.detach() for key, value in head.state_dict().items()}


def learning(layers: Sequence[LoraLinear]) -> int:
    """How many weights one adapter has."""
    return sum(layer.a[0].numel() + layer.b[0].numel() for layer in layers)
