"""What the CUDA kernels are held to, on the processor and on the card: plain torch in fp64, and NF4 storage in a few lines.

Not the kernels' own code: the storage is written here once more, and test_cuda_sources.py holds it to bitsandbytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

CODE = torch.tensor(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334]
    + [-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224]
    + [0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)


def nf4(weight: Tensor, *, nested: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A weight whose size is a multiple of 64 in bitsandbytes' storage, any doubly quantized scales: bytes and state."""
    blocks = weight.float().reshape(-1, 64)
    absmax = blocks.abs().amax(1)
    index = (blocks[..., None] / absmax[:, None, None] - CODE.to(weight.device)).abs().argmin(-1).reshape(-1, 2).to(torch.uint8)
    packed = index[:, 0] << 4 | index[:, 1]
    code = CODE.to(weight.device)
    if not nested:
        return packed, (absmax, code)
    offset = absmax.mean()
    groups = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % 256)).view(-1, 256)
    nested_absmax = groups.abs().amax(1)
    nested_code = torch.linspace(-1, 1, 256, device=weight.device)
    quantized = (
        (groups / nested_absmax[:, None] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).reshape(-1)[: len(absmax)]
    )
    return packed, (quantized.contiguous(), code, nested_absmax, nested_code, offset.reshape(1))


def int8(weight: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A weight as int8 with a scale per output."""
    scale = weight.float().abs().amax(1) / 127
    return (weight / scale[:, None]).round().to(torch.int8), (scale,)


def dequantized(packed: Tensor, state: tuple[Tensor, ...], outer: int) -> Tensor:
    """W `[outer, inner]` in fp64."""
    if len(state) == 1:
        return packed.double() * state[0].double()[:, None]
    absmax, code, *nested = state
    if nested:
        nested_absmax, nested_code, offset = (each.double() for each in nested)
        absmax = nested_code[absmax.int()] * nested_absmax.repeat_interleave(256)[: len(absmax)] + offset
    flat = packed.reshape(-1)
    values = code.double()[torch.stack([flat >> 4, flat & 15], 1).int()].reshape(-1, 64)
    return (values * absmax.double()[:, None]).reshape(outer, -1)


def lora_problem(rows: int, inner: int, outer: int, rank: int, kind: str, dtype: torch.dtype, device: str = "cpu"):
    """x with a few outliers and a mean, W as `kind` (int8, nf4, nf4-nested), bias, A, B."""
    make = torch.Generator().manual_seed(rows * 7 + inner + outer + rank)
    x = torch.randn(rows, inner, generator=make) + 0.3
    x[:, ::97] *= 30
    weight = torch.randn(outer, inner, generator=make) * inner**-0.5
    stored, state = int8(weight) if kind == "int8" else nf4(weight, nested=kind == "nf4-nested")
    bias = torch.randn(outer, generator=make)
    a, b = torch.randn(rank, inner, generator=make) * inner**-0.5, torch.randn(outer, rank, generator=make) * 0.1
    x, bias, a, b = (each.to(device, dtype) for each in (x, bias, a, b))
    return x, stored.to(device), tuple(each.to(device) for each in state), bias, a, b


def lora_plain(x: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float, activation: str) -> Tensor:
    """The formula in the dtype of x; w `[outer, inner]` is rounded to it."""
    y = x @ w.to(x.dtype).T + scale * ((x @ a.T) @ b.T)
    if bias is not None:
        y = y + bias
    return {"none": lambda z: z, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}[activation](y)


def attention_problem(batch: int, heads: int, tokens: int, size: int, bias: str, dtype: torch.dtype, device: str = "cpu"):
    """q, k, v as views of one projection [B, N, 3, H, D]; bias: none, full, shared, fp32 or holes (-inf, also a whole row)."""
    make = torch.Generator().manual_seed(tokens + size)
    qkv = torch.randn(batch, tokens, 3, heads, size, generator=make).to(device, dtype)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    if bias == "none":
        return q, k, v, None
    shape = (1, 1 if bias == "shared" else heads) if bias != "full" else (batch, heads)
    values = torch.randn(*shape, tokens, tokens, generator=make) * 2
    if bias == "holes":
        values[torch.rand(values.shape, generator=make) < 0.3] = -torch.inf
        values[:, :, tokens // 2] = -torch.inf
        values[:, :, 0, : tokens - 1] = -torch.inf
    return q, k, v, values.to(device, torch.float32 if bias == "fp32" else dtype)


def attention_plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale q kᵀ + bias) v in the dtype of q; rows of nothing but -inf give zeros."""
    scores = scale * (q @ k.transpose(-1, -2))
    if bias is not None:
        scores = scores + bias.to(q.dtype)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ v


def held(found: Tensor, plain: Tensor, exact: Tensor) -> None:
    """The error is at most twice that of plain torch in the same dtype, plus 4 eps of the largest value."""
    allowed = 2 * (plain.double() - exact).abs().max() + 4 * torch.finfo(found.dtype).eps * exact.abs().max()
    assert torch.isfinite(found).all()
    error = (found.double() - exact).abs().max()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"
