"""The int8 linear layer in C++, on the caller's thread. Not its arithmetic (csrc/kernels), not its checks (`ops/`)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _native
from ..ops.linear_int8 import Packed


def forward(x, weight, bias, activation, gamma, residual, adapters, adapter_of, y) -> None:
    """Fill y, fp32 `[M, N]` (swiglu: `[M, N / 2]`)."""
    x = x.contiguous()
    rows, k = x.shape
    codes = torch.empty((rows, -(-k // 64) * 64), dtype=torch.uint8)
    scale = torch.empty(rows)
    at = {"code": codes.data_ptr(), "stride": codes.shape[1], "scale": scale.data_ptr()}
    _native.quantize_rows(isa="", x=x.data_ptr(), x_stride=k, rows=rows, k=k, **at)
    kept: list[Tensor] = []  # what is copied must live as long as the call
    _native.linear_int8(
        isa="",
        x=tuple(at.values()),
        weights=_weights(weight, bias, kept),
        after=(activation, _address(gamma, kept), _address(residual, kept), y.shape[1]),
        adapters=[(_weights(a, None, kept), _weights(b, None, kept)) for a, b in adapters],
        adapter_of=_address(adapter_of, kept),
        rows=rows,
        y=y.data_ptr(),
        y_stride=y.shape[1],
    )


def _weights(packed: Packed, bias: Tensor | None, kept: list[Tensor]) -> tuple[int, ...]:
    """(weight, scale, sum, bias, n, k) as the kernels take them; a bias is padded as the scales are."""
    if bias is not None:
        bias = torch.nn.functional.pad(bias, (0, packed.scale.shape[0] - packed.n))
    codes = packed.codes if packed.codes.data_ptr() % 64 == 0 else packed.codes.clone()
    return *(_address(t, kept) for t in (codes, packed.scale, packed.total, bias)), packed.n, packed.k


def _address(tensor: Tensor | None, kept: list[Tensor]) -> int:
    if tensor is None:
        return 0
    kept.append(tensor.contiguous())
    return kept[-1].data_ptr()
