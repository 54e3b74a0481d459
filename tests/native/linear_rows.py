"""Linear layers, LayerNorm and quantization through the native kernels, in numpy; and the same in float64. Not the tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from scipy.special import erf

from edgefm import _native
from edgefm.export.native_pack import pack_fp32, pack_int8, pad

HERE = _native.kernel_tables()
FAST = [isa for isa in HERE if isa != "scalar"]
CANARY = 171
OFFSET = {"avx_vnni": 128, "avx512_vnni": 128}  # what a table's codes have more than s8


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at an address that is a multiple of 64, as weights lie in a bundle."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@dataclass
class Layer:
    """Float weights `[N, K]`, packed for the kernels, and what its codes stand for, `real`, in float64."""

    weight: np.ndarray
    bias: np.ndarray | None = None
    kept: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        packed = pack_int8(self.weight)
        n, k = self.weight.shape
        rows = packed.codes.transpose(0, 2, 1, 3).reshape(packed.codes.shape[0] * 16, -1)[:n, :k]
        self.codes = rows.astype(np.int64)
        self.scale = packed.scale[:n]
        self.kept = [aligned(packed.codes), aligned(packed.scale), aligned(packed.sum), aligned(pack_fp32(self.weight))]
        if self.bias is not None:
            self.kept.append(aligned(pad(self.bias)))

    @property
    def int8(self) -> tuple[int, ...]:
        codes, scale, total = (each.ctypes.data for each in self.kept[:3])
        return codes, scale, total, self.at_bias, *self.weight.shape

    @property
    def at_bias(self) -> int:
        return 0 if self.bias is None else self.kept[4].ctypes.data


@dataclass
class Rows:
    """Quantized rows as a table's kernels want them."""

    isa: str
    code: np.ndarray  # uint8 [M, stride]
    scale: np.ndarray  # fp32 [M]
    k: int

    @property
    def codes(self) -> np.ndarray:
        """As whole numbers, `[M, K]`."""
        return (self.code[:, : self.k] - np.uint8(OFFSET.get(self.isa, 0))).view(np.int8).astype(np.int64)

    @property
    def at(self) -> tuple[int, int, int]:
        return self.code.ctypes.data, self.code.strides[0], self.scale.ctypes.data


def empty_rows(isa: str, rows: int, k: int) -> Rows:
    return Rows(isa, aligned(np.full((rows, -(-k // 64) * 64), CANARY, np.uint8)), np.full(rows, np.nan, np.float32), k)


def quantize(isa: str, x: np.ndarray) -> Rows:
    rows = empty_rows(isa, *x.shape)
    code, stride, scale = rows.at
    at = {"code": code, "stride": stride, "scale": scale}
    _native.quantize_rows(isa=isa, x=x.ctypes.data, x_stride=x.strides[0] // 4, rows=len(x), k=x.shape[1], **at)
    return rows


def layernorm(isa: str, x: np.ndarray, gamma=None, beta=None, eps=1e-6, floats=True, codes=True):
    """Float rows or None, quantized rows or None."""
    rows = empty_rows(isa, *x.shape) if codes else None
    y = np.full((len(x), x.shape[1] + 3), np.nan, np.float32) if floats else None
    out = dict(zip(("code", "stride", "scale"), rows.at, strict=True)) if rows is not None else {}
    if y is not None:
        out |= {"y": y.ctypes.data, "y_stride": y.strides[0] // 4}
    _native.layernorm(
        isa=isa, x=x.ctypes.data, x_stride=x.strides[0] // 4, rows=len(x), k=x.shape[1], eps=eps,
        gamma=address(gamma), beta=address(beta), **out,
    )  # fmt: skip
    if y is not None:
        assert np.isnan(y[:, x.shape[1] :]).all(), "wrote past its columns"
        y = y[:, : x.shape[1]]
    return y, rows


@dataclass
class After:
    """What follows the product."""

    activation: str = "none"
    gamma: np.ndarray | None = None
    residual: np.ndarray | None = None

    @property
    def at(self) -> tuple[str, int, int, int]:
        stride = 0 if self.residual is None else self.residual.strides[0] // 4
        return self.activation, address(self.gamma), address(self.residual), stride

    def exact(self, z: np.ndarray) -> np.ndarray:
        y = activate(self.activation, z.astype(np.float64))
        y = y if self.gamma is None else y * self.gamma
        return y if self.residual is None else y + self.residual

    def columns(self, n: int) -> int:
        return n // 2 if self.activation == "swiglu" else n


def linear_int8(rows: Rows, layer: Layer, after=None, adapters=(), adapter_of=None, splits=()) -> np.ndarray:
    """`adapters`: pairs of layers. `splits`: the rows where a new call begins."""
    after = after or After()
    columns = after.columns(len(layer.weight))
    y = np.full((len(rows.code) + 1, columns + 3), np.nan, np.float32)
    edges = [0, *splits, len(rows.code)]
    for first, last in itertools.pairwise(edges):
        name, gamma, residual, stride = after.at
        code, code_stride, scale = rows.at
        _native.linear_int8(
            isa=rows.isa,
            x=(code + first * code_stride, code_stride, scale + 4 * first),
            weights=layer.int8,
            after=(name, gamma, residual + 4 * first * stride if residual else 0, stride),
            adapters=[(a.int8, b.int8) for a, b in adapters],
            adapter_of=0 if adapter_of is None else adapter_of[first:].ctypes.data,
            rows=last - first,
            y=y[first:].ctypes.data,
            y_stride=y.strides[0] // 4,
        )
    assert np.isnan(y[:, columns:]).all(), "wrote past its columns"
    assert np.isnan(y[-1]).all(), "wrote past its rows"
    return y[:-1, :columns]


def linear_fp32(isa: str, x: np.ndarray, layer: Layer, after=None, same_bits=False) -> np.ndarray:
    after = after or After()
    n, k = layer.weight.shape
    columns = after.columns(n)
    y = np.full((len(x) + 1, columns + 3), np.nan, np.float32)
    _native.linear_fp32(
        isa=isa, x=x.ctypes.data, x_stride=x.strides[0] // 4, weight=layer.kept[3].ctypes.data, bias=layer.at_bias,
        n=n, k=k, after=after.at, rows=len(x), y=y.ctypes.data, y_stride=y.strides[0] // 4,
        same_bits=same_bits,
    )  # fmt: skip
    assert np.isnan(y[:, columns:]).all(), "wrote past its columns"
    assert np.isnan(y[-1]).all(), "wrote past its rows"
    return y[:-1, :columns]


def activate(name: str, z: np.ndarray) -> np.ndarray:
    if name == "gelu":
        return z / 2 * (1 + erf(z / np.sqrt(2)))
    if name == "gelu_tanh":
        return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    if name == "swiglu":
        blocks = z.reshape(len(z), -1, 2, 16)
        gate, value = blocks[:, :, 0], blocks[:, :, 1]
        with np.errstate(over="ignore"):
            return (gate / (1 + np.exp(-gate)) * value).reshape(len(z), -1)
    return z


def address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.ctypes.data


def normal(*shape, seed=0, scale=1.0) -> np.ndarray:
    return (scale * np.random.default_rng([*shape, seed]).standard_normal(shape)).astype(np.float32)


def nmse(y, reference) -> float:
    return float(np.square(y - reference).sum() / np.square(reference).sum())
