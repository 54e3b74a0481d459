"""The int8 linear layer as the formulas in `ops/linear_int8.py` stand, in plain torch. Not for speed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def forward(x, weight, bias, activation, gamma, residual, adapters, adapter_of, y) -> None:
    """Fill y, fp32 `[M, N]` (swiglu: `[M, N / 2]`)."""
    z = product(x, weight)
    if bias is not None:
        z = z + bias
    for i, (a, b) in enumerate(adapters[:1] if adapter_of is None else adapters):
        low = product(product(x, a), b)
        z = z + (low if adapter_of is None else torch.where((adapter_of == i)[:, None], low, 0))
    z = activate(z, activation)
    if gamma is not None:
        z = z * gamma
    y.copy_(z if residual is None else z + residual)


def product(x: Tensor, weight) -> Tensor:
    """x Wᵀ, fp32 `[M, N]`: whole numbers added up exactly, then both scales."""
    codes, scale = quantize(x)
    blocks = weight.codes.transpose(1, 2).flatten(0, 1).flatten(1)[: weight.n, : weight.k]
    return (codes.double() @ blocks.double().T).float() * scale * weight.scale[: weight.n]


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes `[M, K]` of -127 to 127 as fp32, and what one is worth, `[M, 1]`; NaN for rows that are not finite."""
    most = x.abs().amax(1, keepdim=True)
    zeros = ~most.isfinite() | (most < 1e-30)
    codes = torch.where(zeros, 0, (x * (127 / most)).round())
    return codes, torch.where(most.isfinite(), torch.where(zeros, 0, most / 127), torch.nan)


def activate(z: Tensor, activation: str) -> Tensor:
    """Of swiglu blocks of 16 columns alternate: a gate's, its value's."""
    if activation == "swiglu":
        gate, value = z.unflatten(1, (-1, 2, 16)).unbind(2)
        return (functional.silu(gate) * value).flatten(1)
    if activation == "none":
        return z
    return functional.gelu(z, approximate="tanh" if activation == "gelu_tanh" else "none")
