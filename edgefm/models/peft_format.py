"""A LoRA adapter on disk, in PEFT's format, and as tensors in memory.

Not the layer that learns it (`adapt/lora_linear.py`). No peft is needed, and what peft writes is read: plain LoRA on linear
layers, beside it whole modules that learned along (`modules_to_save`: the classifier inside a model).

    adapter_config.json           rank, alpha, names of the layers
    adapter_model.safetensors     base_model.model.NAME.lora_A.weight [r, in], …lora_B.weight [out, r], and the whole modules

NAME is the layer's in its library's model: `blocks.0.attn.qkv` in timm's, `layers.0.attention.q_proj` in transformers'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct, ValidationError, convert
from torch import nn

from ..errors import InputError
from ..partial import write_atomically
from .base_dir import write_json
from .contract import read_json
from .encoder import ImageTower, TimmEncoder, TransformersEncoder
from .probe import ProbeEncoder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTOR = re.compile(r"(.+)\.lora_([AB])\.weight")
# what plain LoRA may say; of other starts (pissa, olora, loftq, …) some change the weights under the adapter, too
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva", "mica"),
}
# what is read, and what changes no answer; everything else, also what later versions of PEFT bring, must be empty or false
READ = ("r", "lora_alpha", "lora_dropout", "modules_to_save", "base_model_name_or_path", "revision")
IDLE = ("task_type", "auto_mapping", "peft_version", "inference_mode", "target_modules", "exclude_modules", "eva_config",
        "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size", "runtime_config",
        "ensure_weight_tying")  # fmt: skip
EMPTY: tuple[Any, ...] = (None, False, {}, [])


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """y = x Wᵀ + (alpha / rank) · (x Aᵀ) Bᵀ for some linear layers of a model. Hu et al. 2021, section 4.

    Attributes:
        layers: A float32 `[rank, in]` and B float32 `[out, rank]` by the layer's name in its library's model.
        whole: float32 tensors of the modules that learned along, by full name (`head.weight`). modules: these modules' names.
        dropout: of the layers' inputs while they learned.
        base: where the model is that it was learned on, for people and for peft; None if nothing on disk can say it.
        revision: of a base on the hub. targets: names or ends of names of all its layers; None where peft names them otherwise.
    """

    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    rank: int
    alpha: float
    dropout: float = 0.0
    whole: Mapping[str, torch.Tensor] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    base: str | None = None
    revision: str | None = None
    targets: tuple[str, ...] | None = None

    @property
    def scale(self) -> float:
        """What B A counts."""
        return self.alpha / self.rank


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write PEFT's two files into `folder`, which exists. The same adapter gives the same bytes.

    Raises:
        InputError: it cannot be written.
    """
    from safetensors.torch import save

    tensors = {f"{PREFIX}{name}": value for name, value in adapter.whole.items()}
    for name, (a, b) in adapter.layers.items():
        tensors |= {f"{PREFIX}{name}.lora_A.weight": a, f"{PREFIX}{name}.lora_B.weight": b}
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()}
    alpha = int(adapter.alpha) if adapter.alpha == int(adapter.alpha) else adapter.alpha
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(adapter.layers),
        "modules_to_save": list(adapter.modules) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    write_atomically(folder / WEIGHTS, save(tensors))
    write_json(folder / CONFIG, config)


def load_adapter(folder: Path) -> Adapter:
    """Read PEFT's two files.

    Raises:
        InputError: a file is missing or damaged, or has numbers that are not finite; another method than plain LoRA; factors
            that do not belong together, or are of another rank than the configuration says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}", expected="an adapter in PEFT's format", do="check the path")
    config, file = read_json(folder / CONFIG), folder / WEIGHTS
    _refuse_other_methods(config, folder)
    stated = _stated(config, folder)
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is not a whole safetensors file ({error})", do="download or copy it again") from error
    modules = stated.modules_to_save or ()
    factors: dict[str, dict[str, torch.Tensor]] = {}
    whole = {}
    for key, value in tensors.items():
        name = key.removeprefix(PREFIX)
        if not value.isfinite().all():
            raise InputError(f"{file} has numbers in {key} that are not finite", do="train it again, at a lower learning rate")
        found = FACTOR.fullmatch(name)
        if found:
            factors.setdefault(found[1], {})[found[2]] = value.float()
        elif any(f".{name}".rpartition(".")[0].endswith(f".{module}") for module in modules):
            whole[name] = value.float()
        else:
            raise InputError(f"{file} holds {key}", expected="lora_A and lora_B of linear layers, and the modules_to_save")
    rank = stated.r
    for name, pair in factors.items():
        shapes = {part: list(value.shape) for part, value in sorted(pair.items())}
        if set(shapes) != {"A", "B"} or not all(len(each) == 2 for each in shapes.values()):
            raise InputError(f"{file} has for {name} the factors {shapes}", expected="A [r, in] and B [out, r]")
        if shapes["A"][0] != rank or shapes["B"][1] != rank:
            raise InputError(
                f"{file} has for {name} A {shapes['A']} and B {shapes['B']}, and {CONFIG} says r = {rank}",
                do="take both files from the same place",
            )
    if not factors:
        raise InputError(f"{file} holds no factors of LoRA", do="check the path")
    return Adapter(
        layers={name: (pair["A"], pair["B"]) for name, pair in factors.items()},
        rank=rank,
        alpha=stated.lora_alpha,
        dropout=stated.lora_dropout or 0.0,
        whole=whole,
        modules=modules,
        base=stated.base_model_name_or_path,
        revision=stated.revision,
        targets=_targets(config),
    )


class _Stated(Struct):
    """What is read of adapter_config.json."""

    r: int
    lora_alpha: float = 8.0
    lora_dropout: float | None = None
    modules_to_save: tuple[str, ...] | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None


def _stated(config: Mapping[str, Any], folder: Path) -> _Stated:
    try:
        return convert({name: config[name] for name in READ if name in config}, _Stated)
    except ValidationError as error:
        raise InputError(f"{folder / CONFIG}: {error}", do="download or copy it again") from error


def _targets(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Of a list without further conditions, which is what PEFT writes unless a pattern was asked for."""
    names = config.get("target_modules")
    if not isinstance(names, list) or any(config.get(each) for each in ("exclude_modules", "layers_to_transform")):
        return None
    return tuple(map(str, names))


def _refuse_other_methods(config: Mapping[str, Any], folder: Path) -> None:
    for name, value in config.items():
        if name not in READ + IDLE and value not in PLAIN.get(name, EMPTY):
            raise InputError(
                f"{folder / CONFIG} says {name} {json.dumps(value)}", expected="plain LoRA", do="merge it with peft first"
            )


def library_names(module: nn.Module) -> dict[str, nn.Module]:
    """The parts of an encoder by their names in its library's model, as PEFT sees them there; without a classifier on top.

    timm's own names; transformers' without the prefix of a classifier's model; of an open_clip tower those in open_clip's
    model, `visual.trunk.…`; of any other module its own.
    """
    if isinstance(module, ProbeEncoder):
        return library_names(module.base)
    if isinstance(module, TimmEncoder):
        return dict(module.model.named_modules())
    if isinstance(module, TransformersEncoder):
        return dict(module.body.named_modules())
    if isinstance(module, ImageTower):
        return {f"visual.{name}": part for name, part in module.named_modules() if name}
    return dict(module.named_modules())
