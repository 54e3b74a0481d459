"""Attention on NVIDIA cards: which kernels run, in blocks of what size, on what memory.

Not the kernels: see `attention_forward.py` and `attention_backward.py`.

The head's values are padded to 16, 32, 64 or 128 in registers only. fp32 is multiplied as three TF32 products (tf32x3), which
keeps fp32's error on the matrix units; plain TF32 would miss it a thousandfold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..select import interpreted
from .attention_backward import columns_kernel, rows_kernel, tiles_kernel
from .attention_forward import cls_row_kernel, forward_kernel, importance_kernel
from .card import on
from .measured import measured

LINE = 128  # a bias's row is padded to a multiple: no block is wider, and each line begins aligned
PROGRAMS = 512  # enough for the 144 multiprocessors of the largest card, several on each


class Blocks(NamedTuple):
    """Queries and keys in a tile, warps of a program, stages of its pipeline of loads."""

    rows: int
    cols: int
    warps: int
    stages: int


# (kernel, 16 or 32 bits, padded head) -> blocks. The side that a program keeps is as large as the registers allow, since it
# decides how often the other side is read. Held down by the 99 KiB of shared memory of cc 8.6, 8.9 and 12.0 and by 255
# registers a thread without spills, which tests/kernels/test_attention_compiles.py holds. fp32 pays its three products there.
BLOCKS = {
    ("forward", 16, 64): Blocks(64, 64, 4, 2),
    ("forward", 16, 128): Blocks(64, 64, 8, 2),
    ("forward", 32, 64): Blocks(32, 32, 8, 1),
    ("forward", 32, 128): Blocks(16, 32, 4, 1),
    ("importance", 16, 64): Blocks(64, 64, 4, 2),
    ("importance", 16, 128): Blocks(64, 128, 8, 2),
    ("importance", 32, 64): Blocks(32, 64, 4, 2),
    ("importance", 32, 128): Blocks(16, 64, 8, 1),
    ("rows", 16, 64): Blocks(64, 64, 8, 2),
    ("rows", 16, 128): Blocks(64, 64, 8, 1),
    ("rows", 32, 64): Blocks(32, 32, 8, 1),
    ("rows", 32, 128): Blocks(16, 32, 4, 1),
    ("columns", 16, 64): Blocks(32, 128, 8, 2),
    ("columns", 16, 128): Blocks(32, 64, 8, 1),
    ("columns", 32, 64): Blocks(32, 32, 8, 1),
    ("columns", 32, 128): Blocks(32, 16, 8, 1),
    ("tiles", 16, 64): Blocks(32, 64, 8, 2),
    ("tiles", 16, 128): Blocks(32, 64, 8, 2),
    ("tiles", 32, 64): Blocks(32, 64, 8, 1),
    ("tiles", 32, 128): Blocks(16, 32, 4, 1),
}
# what cc 9.0 does otherwise: wgmma reads its operands from shared memory, of which there are 227 KiB, and so spares registers
HOPPER = {
    ("forward", 16, 64): Blocks(128, 64, 4, 3),
    ("forward", 16, 128): Blocks(128, 64, 8, 2),
    ("importance", 16, 64): Blocks(64, 128, 4, 3),
    ("rows", 16, 64): Blocks(128, 64, 8, 2),
    ("columns", 16, 64): Blocks(64, 128, 8, 2),
    ("tiles", 16, 64): Blocks(128, 64, 8, 2),
    ("tiles", 16, 128): Blocks(64, 64, 8, 2),
}
CLS_ROW_COLS = 64


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
    cls_row: Tensor,
    importance: Tensor,
) -> None:
    """Fill out `[B, H, N, D]`; lse, cls_row and importance `[B, H, N]` unless they are empty."""
    q, k, v = readable(q), readable(k), readable(v)
    lse = lse if lse.numel() else lse.new_empty(q.shape[:3])  # the kernels need it in any case
    answer, (padded, lines) = writable(out), bias_lines(bias, q)
    n, heads = q.shape[2], q.shape[1]
    with on(q):
        shape, size = blocks("forward", q)
        launch(
            forward_kernel, -(-n // size.rows) * q.shape[0] * heads, size,
            q, k, v, padded, answer, lse, n, heads, scale,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *lines, *answer.stride()[:3],
            **shape, BIAS=bias is not None,
        )  # fmt: skip
        if cls_row.numel():
            del shape["ROWS"], shape["PRECISION"]
            cls_row_kernel[(-(-n // CLS_ROW_COLS) * q.shape[0] * heads,)](
                q, k, padded, lse, cls_row, n, heads, scale,
                *q.stride()[:2], *k.stride()[:3], *lines[:2],
                **shape | {"COLS": CLS_ROW_COLS}, BIAS=bias is not None,
            )  # fmt: skip
        if importance.numel():
            shape, size = blocks("importance", q)
            launch(
                importance_kernel, -(-n // size.cols) * q.shape[0] * heads, size,
                q, k, padded, lse, importance, n, heads, scale,
                *q.stride()[:3], *k.stride()[:3], *lines, **shape, BIAS=bias is not None,
            )  # fmt: skip
    if answer is not out:
        out.copy_(answer)


def backward(
    d_out: Tensor,
    d_lse: Tensor,
    d_cls_row: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    cls_row: Tensor,
    scale: float,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    d_bias: Tensor,
) -> None:
    """Fill dq, dk, dv `[B, H, N, D]`, and d_bias, of the bias's shape, unless it is empty.

    dBias of a bias `[B, H, N, N]` is dS, written by the rows as they pass. One that is repeated over images or heads has a
    kernel of its own, which holds a tile and lets the repeats go by: two products more, but no atomics and no dS in memory.
    """
    q, k, v, d_out, out = (readable(t) for t in (q, k, v, d_out, out))
    answers, (padded, lines) = [writable(t) for t in (dq, dk, dv)], bias_lines(bias, q)
    batch, heads, n, _ = q.shape
    d_lse, delta = d_lse.contiguous(), torch.empty_like(lse)
    marks: dict[str, Any] = {"CLS_ROW": d_cls_row.numel() > 0}
    if marks["CLS_ROW"]:  # row 0 of dP gets d_cls_row, so its Δ gets Σ_j P_0j d_cls_row_j
        d_cls_row, d_lse = d_cls_row.contiguous(), d_lse.clone()
        d_lse[:, :, 0] -= (cls_row * d_cls_row).sum(-1)
    want_bias = bias is not None and d_bias.numel() > 0
    repeated = want_bias and d_bias.shape[0] * d_bias.shape[1] < batch * heads
    inputs = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *lines)
    with on(q):
        shape, size = blocks("rows", q)
        launch(
            rows_kernel, -(-n // size.rows) * batch * heads, size,
            q, k, v, padded, out, lse, d_out, d_lse, d_cls_row, delta, answers[0], d_bias, n, heads, scale,
            *inputs, *out.stride()[:3], *d_out.stride()[:3], *answers[0].stride()[:3],
            **shape, **marks, BIAS=bias is not None, BIAS_GRADIENT=want_bias and not repeated,
        )  # fmt: skip
        shape, size = blocks("columns", q)
        launch(
            columns_kernel, -(-n // size.cols) * batch * heads, size,
            q, k, v, padded, lse, d_out, d_cls_row, delta, answers[1], answers[2], n, heads, scale,
            *inputs, *d_out.stride()[:3], *answers[1].stride()[:3], **shape, **marks, BIAS=bias is not None,
        )  # fmt: skip
        if repeated:
            shape, size = blocks("tiles", q)
            planes = d_bias.shape[0] * d_bias.shape[1]
            repeats, tiles = batch * heads // planes, -(-n // size.rows) * -(-n // size.cols)
            # few tiles cannot fill a card: then the repeats are shared among several programs, added up after
            share = -(-repeats // min(repeats, -(-PROGRAMS // (tiles * planes))))
            parts = -(-repeats // share)
            total = d_bias if parts == 1 else lse.new_empty((parts, *d_bias.shape))
            launch(
                tiles_kernel, tiles * planes * parts, size,
                q, k, v, padded, lse, d_out, d_cls_row, delta, total, n, heads, scale, planes, d_bias.shape[1], repeats, share,
                *inputs, *d_out.stride()[:3], **shape, **marks,
            )  # fmt: skip
            if parts > 1:
                d_bias.copy_(total.sum(0))
    for gradient, answer in zip((dq, dk, dv), answers):
        if answer is not gradient:
            gradient.copy_(answer)


def blocks(kernel: str, q: Tensor) -> tuple[dict[str, Any], Blocks]:
    """The compile-time arguments of a kernel for q, and the blocks they come from."""
    found, d = measured(key(kernel, q.dtype, q.shape[3]), q.device), q.shape[3]
    if found is not None:
        return constants(kernel, q.dtype, d, Blocks(*found))
    hopper = q.is_cuda and torch.cuda.get_device_capability(q.device)[0] == 9
    return constants(kernel, q.dtype, d, table(kernel, q.dtype, d, hopper=hopper))


def key(kernel: str, dtype: torch.dtype, d: int) -> str:
    """What the kernel's blocks for that type and head are called where measured ones are kept."""
    return f"attention {kernel} {32 if dtype == torch.float32 else 16} {64 if d <= 64 else 128}"


def table(kernel: str, dtype: torch.dtype, d: int, *, hopper: bool) -> Blocks:
    """The blocks for a type, a head and a card that were not measured."""
    case = (kernel, 32 if dtype == torch.float32 else 16, 64 if d <= 64 else 128)
    return HOPPER.get(case, BLOCKS[case]) if hopper else BLOCKS[case]


def constants(kernel: str, dtype: torch.dtype, d: int, size: Blocks) -> tuple[dict[str, Any], Blocks]:
    """The compile-time arguments of a kernel in blocks of that size, and the size."""
    bits = 32 if dtype == torch.float32 else 16
    precision = "tf32x3" if bits == 32 else "tf32"  # the half types have no choice
    shape = {"D": d, "DP": max(16, 1 << (d - 1).bit_length()), "ROWS": size.rows, "COLS": size.cols, "PRECISION": precision}
    if kernel == "tiles":
        shape["CHUNK"] = 16 if bits == 32 else shape["DP"]  # of the head at a time: the kernel keeps no row, so it may
    return shape, size


def launch(kernel: Any, programs: int, size: Blocks, *arguments: Any, **constants: Any) -> None:
    """Run a kernel in that many programs."""
    kernel[(programs,)](*arguments, **constants, num_warps=size.warps, num_stages=size.stages)


def readable(t: Tensor) -> Tensor:
    """The tensor with its last axis dense; in the interpreter bf16 becomes fp32, since it computes garbage in bf16."""
    if interpreted() and t.dtype == torch.bfloat16:
        t = t.float()
    return t if t.stride(-1) == 1 else t.contiguous()


def writable(t: Tensor) -> Tensor:
    """The tensor to write to, or in the interpreter one to copy from."""
    return torch.empty_like(t, dtype=torch.float32) if interpreted() and t.dtype == torch.bfloat16 else t


def bias_lines(bias: Tensor | None, q: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """The bias with rows padded by −inf to whole lines, and its strides of image, head and row, 0 where it is repeated.

    So a kernel reads aligned vectors: an odd N aligns none. An axis that is only expanded (stride 0) is not copied out.
    Where there is no bias: q, which is not read.
    """
    if bias is None:
        return q, (0, 0, 0)
    for axis in range(3):
        if bias.stride(axis) == 0:
            bias = bias.narrow(axis, 0, 1)
    padded = F.pad(readable(bias), (0, -bias.shape[3] % LINE), value=-torch.inf)
    b, h, n = (0 if size == 1 else stride for size, stride in zip(padded.shape[:3], padded.stride()[:3]))
    return padded, (b, h, n)
