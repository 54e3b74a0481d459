"""An adapter merged into the weights under it, and the proof that the merged model answers as the un-merged one.

W' = W + (alpha / rank) B A in float32, W dequantized where it was int8 or NF4: merging into the quantized weight would round
the adapter away. Not bf16 or quantized afterwards: the merged model is a plain float32 model of its library.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ..errors import ParityError
from ..models.loaded import LoadedModel
from ..train.images import Images
from ..train.predict import all_outputs, predict
from .adapters import exchange
from .lora_linear import LoraLinear

BOUND = 1e-4  # of the largest answer: float32 round-off of a deep model is a tenth of it
LOOKED_AT = 32  # images


def merge(module: nn.Module, number: int = 0) -> nn.Module:
    """A copy of `module` with plain linear layers in the place of adapted ones; every other weight is shared with it.

    Args:
        number: which of several adapters.
    """
    shared = {id(each): each for each in (*module.parameters(), *module.buffers())}
    plain = copy.deepcopy(module, shared)
    plain.__dict__.pop("by_image", None)
    exchange(plain, {layer: _linear(layer, number) for layer in plain.modules() if isinstance(layer, LoraLinear)})
    return plain


@torch.no_grad()
def _linear(layer: LoraLinear, number: int) -> nn.Linear:
    with torch.device("meta"):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight = nn.Parameter(layer.merged(number))
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().clone())
    return plain


def check_merged(model: LoadedModel, plain: nn.Module, images: Images, rows: np.ndarray, device: torch.device) -> float:
    """The largest difference between what `model` and its merged copy answer, logits and embedding, over the largest answer.

    Both run in fp32.

    Args:
        model: un-merged, on `device` as is `plain`. rows: int64 `[N]`, images that use this adapter; `LOOKED_AT` of them are.

    Raises:
        ParityError: it is more than `BOUND`, or not a number.
    """
    found = [_answers(module, model, images, rows[:LOOKED_AT], device) for module in (model.module, plain)]
    worst = 0.0
    for what, own, merged in zip(("logits", "embedding"), *found):
        largest = max(float(own.abs().max()), torch.finfo(torch.float32).tiny)
        difference = float((merged - own).abs().max()) / largest
        if not difference <= BOUND:
            raise ParityError(
                f"merged, {model.name} answers otherwise: {what} differ by {difference:.2g} of the largest ({largest:.3g})",
                expected=f"at most {BOUND:g}",
                do="report it, with the model's name; the adapter itself is in the checkpoint",
            )
        worst = max(worst, difference)
    return worst


def _answers(
    module: nn.Module, model: LoadedModel, images: Images, rows: np.ndarray, device: torch.device
) -> Iterator[torch.Tensor]:
    outputs = all_outputs(predict(module, images, rows, model.preprocess, device=device, precision="fp32"))
    assert outputs.logits is not None
    return iter((outputs.logits, outputs.embedding))
