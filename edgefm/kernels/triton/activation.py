"""The MLP's activations and their slopes: as functions for other kernels, and as passes of their own. Not the products.

Formulas: `reference.lora.activate`. All arithmetic in fp32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

CODE = {"none": 0, "gelu": 1, "silu": 2, "swiglu": 3, "glu": 4}
NONE, GELU, SILU, SWIGLU, GLU = (tl.constexpr(code) for code in CODE.values())
ROWS, COLUMNS = 8, 256


@triton.jit
def normal(z):
    """Φ(z) of the standard normal distribution, from Φ(−t) = 2^P(t): eleven instructions, where erf takes thirty.

    P: minimax of degree 8 for log₂ Φ(−t) on [0, 6], which falls ever on; z Φ(z) is as exact as erf's in fp32.
    """
    t = tl.abs(z)
    p = -2.334948791e-06 * t + 3.373781453e-05
    p = (p * t - 1.612938292e-04) * t - 1.917035548e-04
    p = ((p * t + 7.126865163e-03) * t - 5.253361315e-02) * t
    tail = tl.exp2(((p - 4.591982815e-01) * t - 1.151106042e00) * t - 1)
    return tl.where(z > 0, 1 - tail, tail)


@triton.jit
def sigmoid(z):
    """1 / (1 + e^−z); its own, because exp2 is one instruction and exp five."""
    return 1 / (1 + tl.exp2(z * -1.4426950408889634))


@triton.jit
def unary(z, ACT: tl.constexpr):
    """gelu(z) or silu(z), or z."""
    if ACT == GELU:
        z = z * normal(z)
    elif ACT >= SILU:
        z = z * sigmoid(z)
    return z


@triton.jit
def slope(z, ACT: tl.constexpr):
    """∂ unary / ∂z."""
    if ACT == GELU:
        s = normal(z) + z * tl.exp2(z * z * -0.7213475204444817) * 0.3989422804014327
    else:
        s = sigmoid(z)
        s = s * (1 + z * (1 - s))
    return s


@triton.jit
def load_activated(z, at, inside, half, ACT: tl.constexpr):
    """act(z) at offsets `at` in fp32; gated, the other half is `half` further right."""
    first = tl.load(z + at, mask=inside, other=0.0).to(tl.float32)
    if ACT >= SWIGLU:
        second = tl.load(z + at + half, mask=inside, other=0.0).to(tl.float32)
        if ACT == SWIGLU:
            y = unary(first, SILU) * second
        else:
            y = first * unary(second, SILU)
    else:
        y = unary(first, ACT)
    return y


@triton.jit
def store_backward(g, z, dz, at, inside, half, ACT: tl.constexpr):
    """dz = act'(z) g at offsets `at` of z and dz; gated, both halves."""
    first = tl.load(z + at, mask=inside, other=0.0).to(tl.float32)
    if ACT >= SWIGLU:
        second = tl.load(z + at + half, mask=inside, other=0.0).to(tl.float32)
        if ACT == SWIGLU:
            d1, d2 = g * second * slope(first, SILU), g * unary(first, SILU)
        else:
            d1, d2 = g * unary(second, SILU), g * first * slope(second, SILU)
        tl.store(dz + at + half, d2.to(dz.dtype.element_ty), mask=inside)
    else:
        d1 = g * slope(first, ACT)
    tl.store(dz + at, d1.to(dz.dtype.element_ty), mask=inside)


@triton.jit
def activate_kernel(z, y, M, N, wide, ACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """y `[M, N]` = act(z), z `[M, wide]`."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    value = load_activated(z, rows[:, None] * wide + columns[None, :], inside, N, ACT)
    tl.store(y + rows[:, None] * N + columns[None, :], value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def activate_backward_kernel(g, z, dz, M, N, wide, ACT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """dz `[M, wide]` = act'(z) g, g `[M, N]`."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows < M)[:, None] & (columns < N)[None, :]
    value = tl.load(g + rows[:, None] * N + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    store_backward(value, z, dz, rows[:, None] * wide + columns[None, :], inside, N, ACT)


def activate(z: torch.Tensor, activation: str) -> torch.Tensor:
    """act(z): `[M, N]`, of a gated activation `[M, N / 2]`."""
    rows, wide = z.shape
    y = z.new_empty(rows, wide // 2 if CODE[activation] >= CODE["swiglu"] else wide)
    activate_kernel[_grid(y)](z, y, *y.shape, wide, CODE[activation], ROWS, COLUMNS, num_warps=4)
    return y


def activate_backward(g: torch.Tensor, z: torch.Tensor, activation: str) -> torch.Tensor:
    """∂/∂z for g = ∂/∂act(z)."""
    dz = torch.empty_like(z)
    activate_backward_kernel[_grid(g)](g, z, dz, *g.shape, z.shape[1], CODE[activation], ROWS, COLUMNS, num_warps=4)
    return dz


def _grid(y: torch.Tensor) -> tuple[int, int]:
    return -(-y.shape[0] // ROWS), -(-y.shape[1] // COLUMNS)
