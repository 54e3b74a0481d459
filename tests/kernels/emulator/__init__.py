"""The CUDA kernels on the processor: `library` compiles them, `lora` and `attention` call them. Not a way to use them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
P, FLOAT, INT, LONG = ctypes.c_void_p, ctypes.c_float, ctypes.c_int, ctypes.c_int64


class LoraLinear(ctypes.Structure):
    """The struct of lora_linear.h."""

    _fields_ = (
        [(name, P) for name in ("x", "weight", "plain", "quantized", "nested_code", "nested_absmax", "offset")]
        + [(name, P) for name in ("row_scale", "bias", "a", "b", "y", "down", "partial")]
        + [("scale", FLOAT)]
        + [(name, INT) for name in ("rows", "inner", "outer", "rank", "splits", "activation")]
    )


class Heads(ctypes.Structure):
    """The struct of attention.h."""

    _fields_ = [("data", P), ("batch", LONG), ("head", LONG), ("token", LONG)]

    @classmethod
    def of(cls, tensor: Tensor) -> Heads:
        return cls(tensor.data_ptr(), *tensor.stride()[:3])


class Attention(ctypes.Structure):
    """The struct of attention.h."""

    _fields_ = (
        [(name, Heads) for name in ("q", "k", "v", "bias", "out")]
        + [("scale", FLOAT)]
        + [(name, INT) for name in ("batch", "heads", "tokens", "head_size")]
        + [("bias_fp32", ctypes.c_bool)]
    )


def cuda_include() -> str | None:
    """The folder of CUDA's headers, by way of nvcc."""
    if shutil.which("nvcc") is None:
        return None
    said = subprocess.run(["nvcc", "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=False).stderr
    top = [line.split("TOP=")[1].strip() for line in said.splitlines() if "TOP=" in line]
    return str(Path(top[0]) / "include") if top else None


@cache
def built(folder: str) -> ctypes.CDLL:
    include = cuda_include()
    if include is None or shutil.which("g++") is None:
        pytest.skip("the emulator needs g++ and CUDA's headers (nvcc)")
    out = f"{folder}/emulated.so"
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-w", "-I", str(HERE), "-isystem", include]
    subprocess.run(["g++", *flags, str(HERE / "emulated.cpp"), "-o", out], check=True)
    return ctypes.CDLL(out)


def lora(
    library: ctypes.CDLL,
    x: Tensor,
    weight: Tensor,
    state: tuple[Tensor, ...],
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    *,
    activation: int = 0,
    splits: int = 1,
) -> Tensor:
    """As `edgefm.kernels.cuda.lora`; state of one tensor: int8. The outputs and the workspace begin as NaN."""
    (rows, inner), outer, rank = x.shape, b.shape[0], b.shape[1]
    y = torch.full((rows, outer), torch.nan, dtype=x.dtype)
    down = torch.full((rows * (rank + 16),), torch.nan)
    partial = torch.full((splits, rows, outer), torch.nan)
    p = LoraLinear(x=x.data_ptr(), weight=weight.data_ptr(), a=a.data_ptr(), b=b.data_ptr(), y=y.data_ptr())
    p.down, p.partial, p.scale = down.data_ptr(), partial.data_ptr(), scale
    p.rows, p.inner, p.outer, p.rank, p.splits, p.activation = rows, inner, outer, rank, splits, activation
    p.bias = None if bias is None else bias.data_ptr()
    names = {1: ("row_scale",), 2: ("plain",), 5: ("quantized", None, "nested_absmax", "nested_code", "offset")}[len(state)]
    for name, tensor in zip(names, state):
        if name:
            setattr(p, name, tensor.data_ptr())
    library.emulated_lora(ctypes.byref(p), int(len(state) == 1), int(x.dtype == torch.bfloat16))
    return y


def attention(library: ctypes.CDLL, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, cards: int) -> Tensor:
    """As `edgefm.kernels.cuda.attention`; `cards`: multiprocessors, which decide how many warps a block has."""
    out = torch.full(q.shape, torch.nan, dtype=q.dtype)
    p = Attention(Heads.of(q), Heads.of(k), Heads.of(v), out=Heads.of(out), scale=scale)
    p.batch, p.heads, p.tokens, p.head_size = q.shape
    if bias is not None:
        p.bias, p.bias_fp32 = Heads.of(bias.expand(*q.shape[:3], q.shape[2])), bias.dtype == torch.float32
    library.emulated_attention(ctypes.byref(p), int(q.dtype == torch.bfloat16), cards)
    return out
