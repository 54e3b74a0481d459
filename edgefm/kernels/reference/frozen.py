"""A frozen weight back in floating point, in plain torch. Not bitsandbytes, whose storage it reads."""

from __future__ import annotations

import torch

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
    packed = base.weight.reshape(-1)
    values = code[torch.stack([packed >> 4, packed & 15], dim=1).reshape(-1).int()][: out * inner]
    blocks = torch.arange(out * inner, device=values.device) // base.block
    return (values * absmax.float()[blocks]).view(out, inner).to(dtype)
