"""A linear layer in int8 as the native engine computes it, with un-merged adapters, for inference: no gradient.

Not the arithmetic: see `select.py`. With ⌊·⌉ to the nearest whole number, ties to even, by row m of x and row n of W:

    s_m = max|x_m| / 127,  X_m = ⌊x_m / s_m⌉         codes of the activations, made anew for each call (per token)
    t_n = max|W_n| / 127,  C_n = ⌊W_n / t_n⌉         codes of the weights, by `pack`
    z_mn = s_m t_n Σ_k X_mk C_nk + bias_n
    u = x Aᵀ,  z += u Bᵀ, both in int8 likewise      LoRA, Hu et al. 2021, with rank up to 64; alpha / r is in B
    y = act(z) · gamma + residual                    swiglu: silu(gate) · value
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...errors import InputError
from ..select import implementation

COLUMNS, GROUP, MAX_RANK = 16, 4, 64
ACTIVATIONS = ("none", "gelu", "gelu_tanh", "swiglu")


class Packed(NamedTuple):
    """int8 weights of N output channels, K inputs, as `csrc/kernels/table.h` lays them out.

    Attributes:
        codes: int8 `[ceil(N / 16), ceil(K / 4), 16, 4]`.
        scale: fp32 `[16 ceil(N / 16)]`.
        total: int32, the same shape: each channel's codes added up.
        n, k: N and K.
    """

    codes: Tensor
    scale: Tensor
    total: Tensor
    n: int
    k: int


class Adapter(NamedTuple):
    """The factors of a low-rank adapter: a of `[r, K]`, b of `[N, r]`."""

    a: Packed
    b: Packed


def pack(weight: Tensor) -> Packed:
    """Float `[N, K]` to int8, symmetric, one scale per output channel.

    For swiglu the rows must lie in blocks of 16, a gate's, its value's, and so on.
    """
    n, k = weight.shape
    weight = weight.detach().float()
    scale = weight.abs().amax(1) / 127
    scale = torch.where(scale == 0, 1.0, scale)
    codes = (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    codes = pad(codes, (0, -k % GROUP, 0, -n % COLUMNS))
    blocks = codes.unflatten(0, (-1, COLUMNS)).unflatten(2, (-1, GROUP)).transpose(1, 2).contiguous()
    return Packed(blocks, pad(scale, (0, -n % COLUMNS)), codes.sum(1, dtype=torch.int32), n, k)


def linear_int8(
    x: Tensor,
    weight: Packed,
    bias: Tensor | None = None,
    activation: str = "none",
    gamma: Tensor | None = None,
    residual: Tensor | None = None,
    adapters: Sequence[Adapter] = (),
    adapter_of: Tensor | None = None,
) -> Tensor:
    """The layer on fp32 `[M, K]`, on the CPU.

    Args:
        bias: fp32 `[N]`.
        activation: none, gelu, gelu_tanh or swiglu (N a multiple of 32; y has N / 2 columns).
        gamma: LayerScale, fp32, one per column of y.
        residual: fp32, y's shape.
        adapters: whose factors fit the layer, rank up to 64.
        adapter_of: int32 `[M]`, each row's adapter, -1 for none; None: all rows take the first.

    Returns:
        fp32 `[M, N]`. NaN or infinity in a row of x make that row NaN.

    Raises:
        InputError: shapes, types or a rank that do not fit.
    """
    _check(x, weight, bias, activation, gamma, residual, adapters, adapter_of)
    low = [t for adapter in adapters for part in adapter for t in part[:3]]
    ranks = [adapter.a.n for adapter in adapters]
    return _linear_int8(x, *weight[:3], weight.n, bias, activation, gamma, residual, low, ranks, adapter_of)


@torch.library.custom_op("edgefm::linear_int8", mutates_args=())
def _linear_int8(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    total: Tensor,
    n: int,
    bias: Tensor | None,
    activation: str,
    gamma: Tensor | None,
    residual: Tensor | None,
    low: Sequence[Tensor],
    ranks: Sequence[int],
    adapter_of: Tensor | None,
) -> Tensor:
    y = _answer(x, n, activation)
    if y.numel():
        k = x.shape[1]
        adapters = [
            Adapter(Packed(*low[6 * i : 6 * i + 3], rank, k), Packed(*low[6 * i + 3 : 6 * i + 6], n, rank))
            for i, rank in enumerate(ranks)
        ]
        weight = Packed(codes, scale, total, n, k)
        implementation("linear_int8", x.device).forward(x, weight, bias, activation, gamma, residual, adapters, adapter_of, y)
    return y


@_linear_int8.register_fake
def _(x, codes, scale, total, n, bias, activation, gamma, residual, low, ranks, adapter_of):
    return _answer(x, n, activation)


def _answer(x: Tensor, n: int, activation: str) -> Tensor:
    return x.new_empty((x.shape[0], n // 2 if activation == "swiglu" else n))


def _check(x, weight, bias, activation, gamma, residual, adapters, adapter_of) -> None:
    if activation not in ACTIVATIONS or (activation == "swiglu" and weight.n % (2 * COLUMNS)):
        raise InputError(
            f"activation {activation} of {weight.n} columns", expected=f"{', '.join(ACTIVATIONS)} (of a multiple of 32)"
        )
    if x.dim() != 2 or x.shape[1] != weight.k:
        raise InputError(f"x of {list(x.shape)}", expected=f"[M, {weight.k}]")
    rows, columns = x.shape[0], weight.n // 2 if activation == "swiglu" else weight.n
    wanted = {
        "x": (x, x.shape),
        "bias": (bias, (weight.n,)),
        "gamma": (gamma, (columns,)),
        "residual": (residual, (rows, columns)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and (tensor.dtype != torch.float32 or tuple(tensor.shape) != tuple(shape)):
            raise InputError(f"{name} of {tensor.dtype} {list(tensor.shape)}", expected=f"torch.float32 {list(shape)}")
    for a, b in adapters:
        if a.n > MAX_RANK or (a.k, b.n, b.k) != (weight.k, weight.n, a.n):
            raise InputError(
                f"an adapter of [{a.n}, {a.k}] and [{b.n}, {b.k}]",
                expected=f"[r, {weight.k}] and [{weight.n}, r] with r of {MAX_RANK} at most",
            )
    if adapter_of is None:
        return
    if adapter_of.dtype != torch.int32 or tuple(adapter_of.shape) != (rows,) or not adapters:
        raise InputError(
            f"adapter_of of {adapter_of.dtype} {list(adapter_of.shape)}", expected=f"adapters, and torch.int32 [{rows}]"
        )
