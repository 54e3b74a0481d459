"""Attention in int8 in C++, on as many threads as torch has. Not its arithmetic (csrc/kernels), not its checks (`ops/`)."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ... import _native


def forward(q: Tensor, k: Tensor, v: Tensor, scale: float, out: Tensor, lse: Tensor, cls_row: Tensor) -> None:
    """Fill out `[B, H, N, D]`, lse and cls_row `[B, H, N]`, fp32."""
    if len({t.stride(2) for t in (q, k, v)}) > 1 or q.stride(2) < q.shape[3] or any(t.stride(3) != 1 for t in (q, k, v)):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    batch, heads, tokens, width = q.shape
    _team(torch.get_num_threads(), os.getpid()).run(
        q=_strides(q),
        k=_strides(k),
        v=_strides(v),
        y=_strides(out),
        lse=lse.data_ptr(),
        row0=cls_row.data_ptr(),
        batch=batch,
        heads=heads,
        tokens=tokens,
        width=width,
        scale=scale,
    )


@cache
def _team(threads: int, process: int) -> Any:
    """Of this process: threads do not come along into a fork."""
    return _native.AttentionHeads(threads=threads)


def _strides(tensor: Tensor) -> tuple[int, int, int, int]:
    return tensor.data_ptr(), *tensor.stride()[:3]
