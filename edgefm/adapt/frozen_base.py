"""The weight under an adapter, frozen: as it is, int8 per channel, or bitsandbytes' NF4. Not the layer (`lora_linear.py`)."""

from __future__ import annotations

from typing import Literal

import torch

from ..errors import MissingExtra
from ..kernels.ops.frozen import Frozen, int8, nf4

Kind = Literal["float", "int8", "nf4"]


def freeze(weight: torch.Tensor, kind: Kind) -> Frozen:
    """The weight of a linear layer, float32 `[out, in]`, without a gradient.

    int8: scale_o = max_i |W_oi| / 127, rounded to nearest. nf4: `quantize_4bit`, blocks of 64, their scales quantized too
    (Dettmers et al. 2023, section 3), on the weight's device.

    Raises:
        MissingExtra: bitsandbytes is not installed.
    """
    weight = weight.detach()
    if kind == "float":
        return Frozen(weight)
    if kind == "int8":
        scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        return int8(torch.round(weight / scale[:, None]).clamp(-127, 127).to(torch.int8), scale)
    return nf4(*_quantize_4bit()(weight.contiguous(), quant_type="nf4", compress_statistics=True))


def check_quantizer(kind: Kind) -> None:
    """Raise `MissingExtra` where `kind` needs a library that is not installed, before work is done for it."""
    if kind == "nf4":
        _quantize_4bit()


def _quantize_4bit():  # type: ignore[no-untyped-def]
    try:
        from bitsandbytes.functional import quantize_4bit
    except ModuleNotFoundError as error:
        raise MissingExtra("bitsandbytes", "compress", "an NF4 base (adapt.lora.base)") from error
    return quantize_4bit
