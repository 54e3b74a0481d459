"""Attention with a bias in CUDA C++, for inference. Not for training: no gradient, no dropout."""

from __future__ import annotations

from torch import Tensor, empty, float32

from ...errors import InputError
from .module import TYPES, load, where


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
        bias = (bias if bias.stride(3) == 1 else bias.contiguous()).expand(batch, heads, tokens, tokens)
    out = empty(batch, tokens, heads, size, dtype=q.dtype, device=q.device).transpose(1, 2)
    if out.numel() == 0:
        return out
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
            scale=size**-0.5 if scale is None else scale,
            batch=batch,
            heads=heads,
            tokens=tokens,
            head_size=size,
            **where(q.device),
        )
    except ValueError as error:
        raise InputError(f"attention_bias: {error}") from error
    return out


def _heads(tensor: Tensor) -> tuple[int, int, int, int]:
    return tensor.data_ptr(), *tensor.stride()[:3]


def _readable(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where sixteen bytes cannot be read at once."""
    aligned = tensor.data_ptr() % 16 == 0 and all(stride % 8 == 0 for stride in tensor.stride()[:3])
    return tensor if aligned and tensor.stride(3) == 1 else tensor.contiguous()
