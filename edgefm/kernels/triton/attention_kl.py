"""KL of attention maps: which kernels run, in which order, in which blocks.

Not the kernels: `attention_kl_pairs.py` (value and gradients in pairs of heads), `attention_kl_mean.py` (of the heads' mean),
`attention_scores.py` (log-sum-exps). Passes over the teacher's scores, forward and backward: pairs 1 and 1, mean 2 and 1.
fp64, and heads of more than 256 (fp32: 128), go to the reference. In fp16 and bf16 the gradient of q is the difference of two
means of k whose probabilities are rounded to that type: it is not better than about eps · scale · max|k|, however small it is
itself.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch

from ..reference import attention_kl as reference
from ..select import interpreted
from .attention_kl_mean import mean_columns_kernel, mean_rows_kernel
from .attention_kl_pairs import pairs_columns_kernel, pairs_rows_kernel
from .attention_scores import lse_kernel
from .card import capability, on_its_card
from .measured import measured

WIDEST = 256  # in 16 bits; in fp32 half of it, else what a block keeps does not fit the 99 KiB of cc 8.6, 8.9 and 12.x


class Tile(NamedTuple):
    """Rows and columns of a tile of the map, warps, stages of the loops."""

    rows: int
    columns: int
    warps: int
    stages: int


def key(kernel: str, width: int, bytes_each: int) -> str:
    """What the kernel's blocks for that head and type are called where measured ones are kept."""
    return f"attention_kl {kernel} {width} {bytes_each}"


def tile(kernel: str, width: int, bytes_each: int, capability: tuple[int, int], device: torch.device | None = None) -> Tile:
    """The blocks of `kernel` (lse, rows, columns, mean_rows, mean_columns) for heads of `width`, already a power of two.

    Those measured on `device`, else chosen to fit shared memory (227 KiB on 9.0 and 10.x, 163 on 8.0, 99 on 8.6, 8.9 and 12.x)
    and 255 registers a thread: the pairs' kernels keep two accumulators of rows × width, the mean's three tiles of rows ×
    columns.
    """
    found = None if device is None else measured(key(kernel, width, bytes_each), device)
    if found is not None:
        return Tile(*found)
    if bytes_each > 2:  # three products of it take three times the registers
        return Tile(16, 32 if width <= 64 and not kernel.startswith("mean") else 16, 4, 1)
    if width > 128:
        return Tile(32, 32, 4, 1)
    if width > 64:
        return Tile(32, 32, 4, 2)
    large = capability[0] in (9, 10)
    # with half the warps or twice the tile the compiler spills registers
    if kernel == "mean_columns":
        return Tile(64, 128, 8, 3) if large else Tile(64, 32, 8, 2)
    if kernel == "mean_rows":
        return Tile(64, 64, 8, 3 if large else 2)
    if large:
        return Tile(128 if kernel == "lse" else 64, 64, 4, 3)
    return Tile(64, 32 if kernel == "rows" and width != 32 else 64, 4, 2)


@on_its_card
def attention_kl(q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t, need):
    """See `ops.attention_kl._attention_kl`; lse_s and lse_t in base 2."""
    if _elsewhere(q_s, q_t):
        return reference.attention_kl(q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t, need)
    batch, heads, tokens, _ = q_s.shape
    call = _Call(q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t)
    nothing = q_s.new_empty(0, dtype=torch.float32)
    others = heads if pairs else q_t.shape[1]
    near = call.out(q_s) if need else nothing
    weight, slope = math.log(2) / (batch * (len(pairs) or 1)), scale_s
    if pairs:
        lse_s, lse_t = (call.fp32(batch, heads, tokens) if need else nothing for _ in range(2))
        share, how = nothing, call.tile("rows")
        parts = call.fp32(batch * heads * -(-tokens // how.rows))
        pairs_rows_kernel[(len(parts),)](
            *call.tensors, call.lengths, call.pairs, parts, lse_s, lse_t, near, *call.strides, heads, tokens, *call.scales,
            weight, slope, *call.widths, lengths is not None, call.mapped, need, *how[:2], num_warps=how.warps,
            num_stages=how.stages,
        )  # fmt: skip
    else:
        lse_s, lse_t = call.fp32(batch, heads, tokens), call.fp32(batch, others, tokens)
        mean, acc = (call.fp32(*q_s.shape) if need else nothing for _ in range(2))
        share = call.fp32(batch, heads, tokens) if need else nothing
        call.lse(0, lse_s, mean, need)
        call.lse(1, lse_t, nothing, False)
        how = call.tile("mean_rows")
        parts = call.fp32(batch * -(-tokens // how.rows))
        mean_rows_kernel[(len(parts),)](
            *call.tensors, call.lengths, parts, lse_s, lse_t, mean, share, acc, near, *call.strides, heads, others, tokens,
            *call.scales, weight, slope, *call.widths, lengths is not None, need, *how[:2], num_warps=how.warps,
            num_stages=how.stages,
        )  # fmt: skip
    if not need:
        return parts.sum(), *(torch.empty_like(nothing) for _ in range(3)), q_s.new_empty(0)
    return parts.sum(), lse_s, lse_t, share, near.to(q_s.dtype)


@on_its_card
def attention_kl_backward(g, q_s, k_s, q_t, k_t, lengths, kept, pairs, scale_s, scale_t):
    """See `ops.attention_kl._attention_kl_backward`."""
    if _elsewhere(q_s, q_t):
        return reference.attention_kl_backward(g, q_s, k_s, q_t, k_t, lengths, kept, pairs, scale_s, scale_t)
    batch, heads, tokens, _ = q_s.shape
    call = _Call(q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t)
    lse_s, lse_t, share, near = kept
    near = call.readable(near)
    dq, dk = call.out(q_s), call.out(k_s)
    weight, slope = 1 / (batch * (len(pairs) or 1)), scale_s
    if pairs:
        how = call.tile("columns")
        pairs_columns_kernel[(batch * heads * -(-tokens // how.columns),)](
            g, *call.tensors, call.lengths, call.pairs, lse_s, lse_t, near, dq, dk, *call.strides, heads, tokens, *call.scales,
            weight, slope, *call.widths, lengths is not None, call.mapped, *how[:2], num_warps=how.warps, num_stages=how.stages,
        )  # fmt: skip
    else:
        how = call.tile("mean_columns")
        acc = call.fp32(*q_s.shape)
        mean_columns_kernel[(batch * -(-tokens // how.columns),)](
            g, *call.tensors, call.lengths, lse_s, lse_t, share, acc, near, dq, dk, *call.strides, heads, q_t.shape[1], tokens,
            *call.scales, weight, slope, *call.widths, lengths is not None, *how[:2], num_warps=how.warps,
            num_stages=how.stages,
        )  # fmt: skip
    return dq.to(q_s.dtype), dk.to(k_s.dtype)


def _elsewhere(q_s: torch.Tensor, q_t: torch.Tensor) -> bool:
    width, size = max(q.shape[3] for q in (q_s, q_t)), max(q.element_size() for q in (q_s, q_t))
    return size > 4 or width * size > 2 * WIDEST


class _Call:
    """The arguments that all kernels of one call share."""

    def __init__(self, q_s, k_s, q_t, k_t, lengths, pairs, scale_s, scale_t) -> None:
        self.tensors = [self.readable(x) for x in (q_s, k_s, q_t, k_t)]
        self.strides = [step for x in self.tensors for step in x.stride()[:3]]
        self.scales = [scale * math.log2(math.e) for scale in (scale_s, scale_t)]
        self.widths = [each for q in (q_s, q_t) for each in (q.shape[3], padded(q.shape[3]))]
        self.lengths = q_s if lengths is None else lengths
        self.mapped = bool(pairs) and pairs != list(range(len(pairs)))
        self.pairs = _on(tuple(pairs), q_s.device) if self.mapped else q_s
        self.masked = lengths is not None
        self.device = q_s.device
        self.capability = capability(self.device)

    @staticmethod
    def readable(x: torch.Tensor) -> torch.Tensor:
        """x with its last dimension dense; in fp32 where the interpreter would misread bf16."""
        if interpreted() and x.dtype == torch.bfloat16:
            x = x.float()
        return x if x.stride(3) == 1 else x.contiguous()

    def out(self, like: torch.Tensor) -> torch.Tensor:
        """An output of the shape of `like`, dense."""
        kind = torch.float32 if interpreted() and like.dtype == torch.bfloat16 else like.dtype
        return torch.empty(like.shape, dtype=kind, device=self.device)

    def fp32(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def tile(self, kernel: str, side: int | None = None) -> Tile:
        """Of the wider side, or of the student (0) or the teacher (1) alone."""
        tensors = self.tensors[::2] if side is None else [self.tensors[2 * side]]
        width, size = max(padded(x.shape[3]) for x in tensors), max(x.element_size() for x in tensors)
        return tile(kernel, width, size, self.capability, self.device)

    def lse(self, side: int, lse: torch.Tensor, mean: torch.Tensor, with_mean: bool) -> None:
        """Fill lse and mean of the student (side 0) or the teacher (side 1)."""
        q, k = self.tensors[2 * side : 2 * side + 2]
        batch, heads, tokens, _ = q.shape
        how = self.tile("lse", side)
        lse_kernel[(batch * heads * -(-tokens // how.rows),)](
            q, k, self.lengths, lse, mean, *self.strides[6 * side : 6 * side + 6], heads, tokens, self.scales[side],
            *self.widths[2 * side : 2 * side + 2], self.masked, with_mean, *how[:2], num_warps=how.warps, num_stages=how.stages,
        )  # fmt: skip


def padded(width: int) -> int:
    """A head's width as the kernels see it: a power of two from 16, the least that matrix instructions take."""
    return max(16, 1 << (width - 1).bit_length())


@functools.lru_cache(maxsize=64)
def _on(pairs: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(pairs, dtype=torch.int32, device=device)
