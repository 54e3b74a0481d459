"""LoRA on a frozen NF4 or int8 linear layer in CUDA C++, for inference. Not for training: no dropout, no gradient."""

from __future__ import annotations

from torch import Tensor, bfloat16, cuda, empty, float32, int8, uint8

from ...errors import InputError
from ..ops.frozen import Layer
from ..reference.lora import activate
from .module import TYPES, checked, load, where

# Up to so many rows W is read once, in 4 or 8 bits. One row on an H200: 2.3 to 3.1 times as fast as to dequantize W and call
# cuBLAS, as Triton's way does; 197 rows: 0.7 to 1.2 times. What lies between is not measured (benchmarks/gpu_cuda.py).
FEW = 8
# Before 8.0 there is plain torch only, which takes several passes over W in fp32 first. An estimate: no such card was measured.
MANY = 1024
SERVES = f"inference on an int8 or NF4 base, up to {FEW} rows, or {MANY:,} before compute capability 8.0"
DEEPEST, STEP, BLOCK, GROUP = 128, 64, 64, 256  # rank; values of x at a time; NF4's blocks and the blocks of their scales


def refuses(x: Tensor, layers: tuple[Layer, ...], index: Tensor | None, p: float, *, asked: bool = False) -> str | None:
    """Why x `[M, in]` through these layers goes elsewhere; None if it need not. `asked`: by name, so that slow will do."""
    if p or index is not None:
        return "it has no dropout" if p else "it has no choice of an adapter for each row"
    modern = cuda.get_device_capability(x.device) >= (8, 0)
    if x.dtype not in TYPES or (x.dtype == bfloat16 and not modern):
        return f"it has no {x.dtype} here"
    if not asked and len(x) > (most := FEW if modern else MANY):
        return f"{len(x):,} rows are more than {most:,}"
    if x.data_ptr() % 16:
        return "x does not begin at a multiple of 16 bytes"
    for base, _, a, _ in layers:
        if base.kind == "float" or (base.kind == "nf4" and (base.block, base.nested_block) != (BLOCK, GROUP)):
            return "the base is neither int8 nor NF4 in blocks of 64"
        if a.shape[2] % STEP:
            return f"{a.shape[2]:,} inputs are no multiple of {STEP}"
        if a.shape[1] > DEEPEST:
            return f"rank {a.shape[1]:,} is more than {DEEPEST}"
    return None


def linear(x: Tensor, layer: Layer, index: None, seed: None, scale: float, p: float, activation: str):
    """y `[M, out]` for x `[M, in]`; nothing for a backward. The function of this name of every implementation."""
    (weight, state, *_), bias = layer.base, None if layer.bias is None else layer.bias.to(x.dtype)
    a, b = (each.contiguous() for each in layer.flat(x.dtype))
    if layer.base.kind == "int8":
        y = lora_linear_int8(x, weight.contiguous(), state[0].float().contiguous(), bias, a, b, scale, activation)
    else:
        absmax, *nested = state
        state = (absmax if len(state) == 5 else absmax.float(), *(each.float().contiguous() for each in nested))
        y = lora_linear_nf4(x, weight, state, bias, a, b, scale, activation)
    return y, x.new_empty(0), x.new_empty(0)


def mlp(x: Tensor, fc1: Layer, fc2: Layer, index: None, seed: None, scale: float, p: float, activation: str):
    """y `[M, out]` of fc2(act(fc1(x))): two launches, between them a gate as a pass of its own."""
    gated = activation in ("swiglu", "glu")
    h, *_ = linear(x, fc1, index, seed, scale, p, "none" if gated else activation)
    y, *_ = linear(activate(h, activation) if gated else h, fc2, index, seed, scale, p, "none")
    return y, x.new_empty(0), x.new_empty(0), x.new_empty(0)


def lora_linear_nf4(
    x: Tensor,
    packed: Tensor,
    state: tuple[Tensor, ...],
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float = 1.0,
    activation: str = "none",
) -> Tensor:
    """act(x Wᵀ + bias + scale · (x Aᵀ) Bᵀ), in x's dtype, sums in fp32. Hu et al. 2021; NF4: Dettmers et al. 2023 (QLoRA).

    Args:
        x: fp16 or, from compute capability 8.0 on, bf16 `[..., in]`; in is a multiple of 64.
        packed: uint8, in · out / 2 bytes as bitsandbytes stores them (the first value in the high half), blocks of 64.
        state: (absmax fp32 `[blocks]`, code), or doubly quantized (absmax uint8 `[blocks]`, code, nested_absmax fp32,
            nested_code fp32 `[256]`, offset fp32, one element), blocks of 256. `code` is NF4's own and not read.
        bias: `[out]` or None. a, b: `[r, in]`, `[out, r]`, r at most 128; all in x's dtype.
        activation: none, gelu (with erf) or silu.

    Raises:
        InputError: a dtype, shape or device that does not fit, or no CUDA module.
    """
    outer, inner = b.shape[0], x.shape[-1]
    blocks = outer * inner // 64
    if packed.numel() != outer * inner // 2 or len(state) not in (2, 5):
        raise InputError(
            f"an NF4 weight of {packed.numel()} bytes with {len(state)} tensors of state",
            expected=f"{outer * inner // 2} bytes, and 2 tensors or, doubly quantized, 5",
        )
    pointers = {"weight": checked("packed", packed.reshape(-1), uint8, (outer * inner // 2,), x.device)}
    if len(state) == 2:
        pointers["absmax"] = checked("absmax", state[0].reshape(-1), float32, (blocks,), x.device)
        return _linear("nf4", x, pointers, bias, a, b, scale, activation)
    absmax, _, nested_absmax, nested_code, offset = state
    pointers["quantized"] = checked("absmax", absmax.reshape(-1), uint8, (blocks,), x.device)
    pointers["nested_absmax"] = checked("nested_absmax", nested_absmax, float32, ((blocks + 255) // 256,), x.device)
    pointers["nested_code"] = checked("nested_code", nested_code, float32, (256,), x.device)
    pointers["offset"] = checked("offset", offset.reshape(-1), float32, (1,), x.device)
    return _linear("nf4", x, pointers, bias, a, b, scale, activation)


def lora_linear_int8(
    x: Tensor,
    weight: Tensor,
    row_scale: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float = 1.0,
    activation: str = "none",
) -> Tensor:
    """As `lora_linear_nf4` with W = weight · row_scale[:, None]: int8 `[out, in]` and fp32 `[out]`."""
    outer, inner = b.shape[0], x.shape[-1]
    pointers = {
        "weight": checked("weight", weight, int8, (outer, inner), x.device),
        "row_scale": checked("row_scale", row_scale, float32, (outer,), x.device),
    }
    return _linear("int8", x, pointers, bias, a, b, scale, activation)


def _linear(
    kind: str, x: Tensor, pointers: dict[str, int], bias: Tensor | None, a: Tensor, b: Tensor, scale: float, activation: str
) -> Tensor:
    if x.dtype not in TYPES:
        raise InputError(f"x of {x.dtype}", expected="fp16 or bf16")
    rows, (outer, rank), inner, device = x.reshape(-1, x.shape[-1]).contiguous(), b.shape, x.shape[-1], x.device
    y = empty(*x.shape[:-1], outer, dtype=x.dtype, device=device)
    if rows.shape[0] == 0:
        return y
    module, at = load(device), where(device)
    try:
        splits, down_bytes, partial_bytes = module.lora_workspace(rows.shape[0], inner, outer, rank, at["device"])
        down = empty(max(down_bytes, 16), dtype=uint8, device=device)
        partial = empty(partial_bytes, dtype=uint8, device=device) if partial_bytes else None
        names = ("absmax", "quantized", "nested_code", "nested_absmax", "offset", "row_scale")
        module.lora_linear(
            kind=kind,
            type=TYPES[x.dtype],
            x=rows.data_ptr(),
            **(dict.fromkeys(names, 0) | pointers),
            bias=0 if bias is None else checked("bias", bias, x.dtype, (outer,), device),
            a=checked("a", a, x.dtype, (rank, inner), device),
            b=checked("b", b, x.dtype, (outer, rank), device),
            y=y.data_ptr(),
            down=down.data_ptr(),
            partial=0 if partial is None else partial.data_ptr(),
            scale=scale,
            rows=rows.shape[0],
            inner=inner,
            outer=outer,
            rank=rank,
            splits=splits,
            activation=activation,
            **at,
        )
    except ValueError as error:
        raise InputError(f"lora_linear: {error}") from error
    return y
