"""One head of attention through the native kernels, in numpy; and the same in float64. Not the tests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgefm import _native

ISAS = ("scalar", "sse41", "avx2", "avx_vnni", "avx512_vnni", "neon_dotprod")
CANARY = 171


def present() -> list[str]:
    """The instruction sets whose kernels run here."""
    found = []
    for isa in ISAS:
        try:
            _native.attention_bytes(isa, "int8", 1, 32)
        except ValueError:
            continue
        found.append(isa)
    return found


@dataclass
class Answer:
    y: np.ndarray  # [N, W]
    lse: np.ndarray | None  # [N]
    row0: np.ndarray | None  # [N]


def attend(isa, precision, qkv, scale, *, splits=None, wanted=True) -> Answer:
    """`qkv` is fp32 `[N, 3, W]`: q, k, v of a token side by side. `splits`: the rows where a new call begins."""
    tokens, _, width = qkv.shape
    packed, scratch = (guarded(size) for size in _native.attention_bytes(isa, precision, tokens, width))
    y = np.full((tokens + 1, width + 5), np.nan, np.float32)
    lse, row0 = np.full(tokens, np.nan, np.float32), np.full(tokens, np.nan, np.float32)
    head = {
        "isa": isa,
        "precision": precision,
        "q": qkv[:, 0].ctypes.data,
        "k": qkv[:, 1].ctypes.data,
        "v": qkv[:, 2].ctypes.data,
        "stride": qkv.strides[0] // 4,
        "tokens": tokens,
        "width": width,
        "scale": scale,
        "packed": packed.ctypes.data,
        "scratch": scratch.ctypes.data,
    }
    out = {"y": y.ctypes.data, "y_stride": y.strides[0] // 4}
    if wanted:
        out |= {"lse": lse.ctypes.data, "row0": row0.ctypes.data}
    _native.attention(**head)
    edges = [0, *(splits or []), tokens]
    for rows in pairwise(edges):
        _native.attention(**head, **out, rows=rows)
    for memory in (packed, scratch):
        assert (memory[-64:] == CANARY).all(), "wrote past the bytes it asked for"
    assert np.isnan(y[:, width:]).all(), "wrote past its columns"
    assert np.isnan(y[tokens]).all(), "wrote past its rows"
    return Answer(y[:tokens, :width].copy(), lse if wanted else None, row0 if wanted else None)


def guarded(size: int) -> np.ndarray:
    """`size` bytes aligned to 64, full of what is no sensible number, and 64 bytes more behind them."""
    room = np.full(size + 128, CANARY, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size + 64]


def exact(qkv, scale, dtype=np.float64) -> Answer:
    """The same in numpy, in float64 unless told otherwise."""
    q, k, v = (qkv[:, i].astype(dtype) for i in range(3))
    scores = dtype(scale) * (q @ k.T)
    most = scores.max(1, keepdims=True)
    p = np.exp(scores - most)
    total = p.sum(1, keepdims=True)
    return Answer(p @ v / total, (most + np.log(total))[:, 0], (p / total)[0])


def nmse(y, reference) -> float:
    return float(np.square(y - reference).sum() / np.square(reference).sum())
