"""A frozen weight back in floating point: NF4 in bitsandbytes' storage, and int8. Not a product: cuBLAS or `product.py` is.

The dequantized weight is scratch of one product. Inside the product's own loop each of the ⌈M / 128⌉ row blocks would
dequantize it again: at 12,600 rows a hundred times.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..ops.frozen import Frozen

BYTES = 1024


@triton.jit
def nf4_kernel(
    packed, absmax, code, nested_absmax, nested_code, offset, out, count,
    GROUP: tl.constexpr, NESTED_GROUP: tl.constexpr, NESTED: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """out[2i], out[2i + 1] = code[high, low half of packed[i]] · absmax[2i // GROUP]; out `[count]`, count even or not."""
    at = tl.program_id(0) * BYTES + tl.arange(0, BYTES)
    inside = at * 2 < count
    byte = tl.load(packed + at, mask=inside, other=0).to(tl.int32)
    group = at * 2 // GROUP
    if NESTED:
        level = tl.load(absmax + group, mask=inside, other=0).to(tl.int32)
        size = tl.load(nested_code + level) * tl.load(nested_absmax + group // NESTED_GROUP, mask=inside, other=0.0)
        size = size + tl.load(offset)
    else:
        size = tl.load(absmax + group, mask=inside, other=0.0).to(tl.float32)
    pair = tl.join(tl.load(code + (byte >> 4)) * size, tl.load(code + (byte & 15)) * size)
    to = tl.program_id(0) * BYTES * 2 + tl.arange(0, BYTES * 2)
    tl.store(out + to, tl.reshape(pair, (BYTES * 2,)).to(out.dtype.element_ty), mask=to < count)


@triton.jit
def int8_kernel(weight, scale, out, count, inner, BLOCK: tl.constexpr):
    """out[i] = weight[i] · scale[i // inner]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(weight + at, mask=inside, other=0).to(tl.float32)
    value *= tl.load(scale + at // inner, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


def dequantize(base: Frozen, out: int, inner: int, dtype: torch.dtype) -> torch.Tensor:
    """W, `[out, inner]` in `dtype`."""
    if base.kind == "float":
        return base.weight.to(dtype).contiguous()
    weight, state = base.weight.contiguous(), [each.contiguous() for each in base.state]
    w = torch.empty(out, inner, dtype=dtype, device=weight.device)
    grid = (-(-w.numel() // (2 * BYTES)),)
    if base.kind == "int8":
        int8_kernel[grid](weight, state[0], w, w.numel(), inner, 2 * BYTES, num_warps=4)
        return w
    absmax, code, *nested = state
    nested_absmax, nested_code, offset = nested or (absmax, code, code)
    nf4_kernel[grid](
        weight, absmax, code, nested_absmax, nested_code, offset, w, w.numel(),
        base.block, base.nested_block, bool(nested), BYTES, num_warps=4,
    )  # fmt: skip
    return w
