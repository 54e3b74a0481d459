"""An empty timm model from an architecture's name and arguments, ready to be filled with weights.

Not a loader: no weights are read, and timm's own search for them is switched off.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from timm.models import PretrainedCfg

from ..errors import InputError
from .weights import misfits

FIELDS = {field.name for field in dataclasses.fields(PretrainedCfg)}
# Where timm would look for weights, and how.
SOURCES = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load"}


def build_timm(architecture: str, arguments: Mapping[str, Any], cfg: Mapping[str, Any], where: object) -> Any:
    """A timm model without weights: on torch's meta device where that loses nothing, so that no time goes into random numbers.

    Args:
        arguments: of `timm.create_model`; `mlp_layer` may be "SwiGLUPacked".
        cfg: the configuration's `pretrained_cfg`; empty for timm's own.

    Raises:
        InputError: arguments that the architecture does not take.
    """
    options = dict(arguments)
    known = {key: value for key, value in cfg.items() if key in FIELDS - SOURCES}
    if known:
        options["pretrained_cfg"] = known | {"architecture": architecture}
    if options.get("mlp_layer") == "SwiGLUPacked":
        options["mlp_layer"] = SwiGLUPacked
    try:
        try:
            with torch.device("meta"):
                model = timm.create_model(architecture, pretrained=False, **options)
        except (RuntimeError, NotImplementedError):  # it computes with its initial weights
            return timm.create_model(architecture, pretrained=False, **options)
        # Buffers that no weights file holds have been computed, and on the meta device computed to nothing.
        kept = set(dict(model.named_buffers())) <= set(model.state_dict())
        return model if kept else timm.create_model(architecture, pretrained=False, **options)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"timm's {architecture} cannot be built with the model_args in {where} ({error})", do="correct its config.json"
        ) from error


def rebuilds(model: torch.nn.Module, architecture: str, arguments: Mapping[str, Any]) -> bool:
    """Whether name and arguments, as JSON holds them, build a model like this one: a user's Python may say too little."""
    try:
        json.dumps(arguments)
        return not misfits(build_timm(architecture, arguments, {}, architecture), model.state_dict())
    except (InputError, TypeError, RuntimeError):
        return False
