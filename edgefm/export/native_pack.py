"""A linear layer's weights in the order that every instruction set of the native engine reads in place (docs/native-format.md).

Not the model (`native_vit.py`) and not the kernels (`csrc/kernels/table.h`, which says the same in C++).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

COLUMNS, GROUP, MOST = 16, 4, 127


class Packed(NamedTuple):
    """int8 weights.

    Attributes:
        codes: int8 `[ceil(N / 16), ceil(K / 4), 16, 4]`, -127 to 127; padding is 0.
        scale: float32 `[16 ceil(N / 16)]`: w = code * scale.
        sum: int32, the same shape: the codes of an output channel added up.
    """

    codes: np.ndarray
    scale: np.ndarray
    sum: np.ndarray


def pack_int8(weight: np.ndarray) -> Packed:
    """Float `[N, K]` to int8, symmetric, one scale per output channel: s = max|w| / 127, code = round(w / s)."""
    weight = np.asarray(weight, np.float32)
    scale = (np.abs(weight).max(axis=1, initial=0.0) / MOST).astype(np.float32)
    scale[scale == 0] = 1.0
    codes = np.clip(np.rint(weight / scale[:, None]), -MOST, MOST).astype(np.int8)
    n, k = codes.shape
    whole = np.zeros((_up(n, COLUMNS), _up(k, GROUP)), np.int8)
    whole[:n, :k] = codes
    blocks = whole.reshape(-1, COLUMNS, whole.shape[1] // GROUP, GROUP).transpose(0, 2, 1, 3)
    return Packed(np.ascontiguousarray(blocks), pad(scale), whole.sum(axis=1, dtype=np.int32))


def pack_fp32(weight: np.ndarray) -> np.ndarray:
    """Float `[N, K]` as float32 `[ceil(N / 16), K, 16]`; padding is 0."""
    n, k = weight.shape
    whole = np.zeros((_up(n, COLUMNS), k), np.float32)
    whole[:n] = weight
    return np.ascontiguousarray(whole.reshape(-1, COLUMNS, k).transpose(0, 2, 1))


def pad(vector: np.ndarray) -> np.ndarray:
    """Float `[N]` as float32 with zeros behind it, to a multiple of 16."""
    whole = np.zeros(_up(len(vector), COLUMNS), np.float32)
    whole[: len(vector)] = vector
    return whole


def gated(rows: np.ndarray) -> np.ndarray:
    """The rows of a packed SwiGLU's first layer, gates before values, `[2 H, …]`, as blocks of 16: a gate's, its value's, ….

    H is filled up with zero rows to a multiple of 16: a gate of 0 gives 0.
    """
    gate, value = np.split(np.asarray(rows, np.float32), 2)
    filled = np.zeros((2, _up(len(gate), COLUMNS), *gate.shape[1:]), np.float32)
    filled[0, : len(gate)], filled[1, : len(value)] = gate, value
    return filled.reshape(2, -1, COLUMNS, *gate.shape[1:]).swapaxes(0, 1).reshape(-1, *gate.shape[1:])


def _up(count: int, to: int) -> int:
    return -(-count // to) * to
