"""A frozen weight back in floating point, in plain torch. Not bitsandbytes, whose storage it reads."""

from __future__ import annotations

import torch
from torch.nn import functional

from ..ops.frozen import Frozen


def dequantize(base: Frozen, out: int, inner: int, dtype: torch.dtype) -> torch.Tensor:
    """W, `[out, inner]` in `dtype`; the formulas are in `Frozen`."""
    if base.kind == "float":
        return base.weight.to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    if base.kind == "int8":
        return (base.weight.to(wide) * base.state[0].to(wide)[:, None]).to(dtype)
    absmax, code, *nested = base.state
    if nested:
        nested_absmax, nested_code, offset = nested
        groups = torch.arange(absmax.numel(), device=absmax.device) // base.nested_block
        absmax = nested_code[absmax.reshape(-1).int()] * nested_absmax[groups] + offset
    levels = torch.arange(256, device=code.device)
    pairs = code[torch.stack([levels >> 4, levels & 15], dim=1)]  # what a byte means, `[256, 2]`
    values = pairs[base.weight.reshape(-1).int()].reshape(-1)[: out * inner]
    short = absmax.numel() * base.block - out * inner
    blocks = (functional.pad(values, (0, short)) if short else values).view(-1, base.block)
    return (blocks * absmax.float().view(-1, 1)).reshape(-1)[: out * inner].view(out, inner).to(dtype)
