"""Attention with a bias in CUDA C++, for inference. Not for training: no gradient, no dropout."""

from __future__ import annotations

from torch import Tensor, bfloat16, cuda, empty, float32

from ...errors import InputError
from .module import TYPES, load, where

LONGEST, SIZES, MOST = 1024, (32, 64, 80, 128), 65535  # tokens, heads' widths, images or heads
SERVES = f"inference of the output alone, up to {LONGEST:,} tokens"


def refuses(q: Tensor, bias: Tensor | None, *, asked: bool = False) -> str | None:
    """Why `forward` does not take q `[B, H, N, D]` and a bias that fits it; None if it does. `asked` changes nothing here."""
    batch, heads, tokens, size = q.shape
    if q.dtype not in TYPES or (q.dtype == bfloat16 and cuda.get_device_capability(q.device) < (8, 0)):
        return f"it has no {q.dtype} here"
    if bias is not None and bias.dtype not in (q.dtype, float32):
        return f"it takes no bias of {bias.dtype} beside {q.dtype}"
    if size not in SIZES:
        return f"heads of {size} values are none of {', '.join(map(str, SIZES))}"
    if tokens > LONGEST:
        return f"{tokens:,} tokens are more than {LONGEST:,}"
    return f"{max(batch, heads):,} images or heads are more than {MOST:,}" if max(batch, heads) > MOST else None


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
    """Fill out `[B, H, N, D]`; the others are empty. The function of this name of every implementation."""
    if lse.numel() or cls_row.numel() or importance.numel():
        raise InputError("log-sum-exp or sums of the map of attention in CUDA C++", expected="the output alone")
    _fill(q, k, v, bias, scale, out)


def attention_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(scale · q kᵀ + bias) v, sums in fp32; a row whose scores are all -inf gives zeros.

    Online softmax: Milakov and Gimelshein 2018.

    Args:
        q, k, v: fp16 or, from compute capability 8.0 on, bf16 `[B, H, N, D]`, N at most 1,024, D 32, 64, 80 or 128. Views of
            one projection `[B, N, 3, H, D]` are taken as they are.
        bias: in q's dtype or fp32 `[1 or B, 1 or H, N, N]`, or None.
        scale: D ** -0.5 if None.

    Returns: `[B, H, N, D]`, laid out as `[B, N, H, D]`, so that merging the heads costs nothing.

    Raises:
        InputError: a dtype, shape or device that does not fit, or no CUDA module.
    """
    if q.dim() != 4 or not (q.shape == k.shape == v.shape) or len({(t.dtype, t.device) for t in (q, k, v)}) > 1:
        shapes = ", ".join(f"{t.dtype} {list(t.shape)} on {t.device}" for t in (q, k, v))
        raise InputError(f"q, k, v of {shapes}", expected="three alike [B, H, N, D]")
    if q.dtype not in TYPES:
        raise InputError(f"q of {q.dtype}", expected="fp16 or bf16")
    batch, heads, tokens, size = q.shape
    if bias is not None:
        fits = bias.dim() == 4 and bias.shape[0] in (1, batch) and bias.shape[1] in (1, heads)
        if not fits or bias.shape[2:] != (tokens, tokens) or bias.dtype not in (q.dtype, float32) or bias.device != q.device:
            raise InputError(
                f"a bias of {bias.dtype} {list(bias.shape)} on {bias.device}",
                expected=f"{q.dtype} or fp32 [1 or {batch}, 1 or {heads}, {tokens}, {tokens}] on {q.device}",
            )
    out = empty(batch, tokens, heads, size, dtype=q.dtype, device=q.device).transpose(1, 2)
    if out.numel():
        _fill(q, k, v, bias, size**-0.5 if scale is None else scale, out)
    return out


def _fill(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, out: Tensor) -> None:
    """out `[B, H, N, D]`, which is written where it lies, its last axis dense."""
    batch, heads, tokens, size = q.shape
    if bias is not None:
        bias = (bias if bias.stride(3) == 1 else bias.contiguous()).expand(batch, heads, tokens, tokens)
    module = load(q.device)
    q, k, v = (_readable(each) for each in (q, k, v))
    try:
        module.attention(
            type=TYPES[q.dtype],
            q=_heads(q),
            k=_heads(k),
            v=_heads(v),
            bias=(0, 0, 0, 0) if bias is None else _heads(bias),
            bias_fp32=bias is not None and bias.dtype == float32,
            out=_heads(out),
            scale=scale,
            batch=batch,
            heads=heads,
            tokens=tokens,
            head_size=size,
            **where(q.device),
        )
    except ValueError as error:
        raise InputError(f"attention_bias: {error}") from error


def _heads(tensor: Tensor) -> tuple[int, int, int, int]:
    return tensor.data_ptr(), *tensor.stride()[:3]


def _readable(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where sixteen bytes cannot be read at once."""
    aligned = tensor.data_ptr() % 16 == 0 and all(stride % 8 == 0 for stride in tensor.stride()[:3])
    return tensor if aligned and tensor.stride(3) == 1 else tensor.contiguous()
