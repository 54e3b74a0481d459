"""Pixels to the tensor a model was trained on, as `spec/preprocess.py` defines it: the numpy implementation, and the choice.

Not a decoder (`decode.py` makes the pixels) and not fast by itself: `edgefm._native` does the same in C++ where it is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np

from ..errors import ImageError, InputError
from ..spec.preprocess import Preprocess

native: Any
try:
    native = importlib.import_module("edgefm._native")
except ImportError:
    native = None

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
LONGEST_SIDE = 2**24  # longer, and an index is no exact float32
SERIAL = 2**18  # multiplications that OpenBLAS does in one thread: more threads wait for each other where other work runs
BLOCK = 16  # output rows per matrix product; the windows of neighbours overlap, so each source row is converted about once


def check_pixels(pixels: np.ndarray) -> np.ndarray:
    """The array itself, in the machine's byte order: uint8 or uint16, `[H, W]` or `[H, W, C]` with C = 1, 3 or 4, not empty.

    Raises:
        ImageError: anything else.
    """
    if not isinstance(pixels, np.ndarray):
        raise ImageError(f"the image is a {type(pixels).__name__}", expected="a numpy array")
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        raise ImageError(
            f"the pixels are {pixels.dtype}",
            expected="uint8 (0 to 255) or uint16 (raw values)",
            do="convert them with .astype, after scaling them to one of these ranges",
        )
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"the pixels have the shape {list(pixels.shape)}", expected="[H, W] or [H, W, C] with 1, 3 or 4 channels, one image"
        )
    if 0 in pixels.shape:
        raise ImageError(f"the image is empty, its shape is {list(pixels.shape)}", expected="at least one pixel")
    if max(pixels.shape) > LONGEST_SIDE:
        raise ImageError(
            f"the image is {pixels.shape[0]} x {pixels.shape[1]} pixels", expected=f"at most {LONGEST_SIDE} a side"
        )
    return np.asarray(pixels).astype(pixels.dtype.newbyteorder("="), copy=False)


def resized(spec: Preprocess, height: int, width: int) -> tuple[int, int]:
    """(height, width) after the resize and before the crop, pixels."""
    if spec.resize == "squash":
        return spec.resize_to, spec.resize_to
    short = min(height, width)
    return spec.resize_to * height // short, spec.resize_to * width // short


def corner(side: int, size: int) -> int:
    """First row or column of the centre crop: (side - size) / 2, halves to even."""
    return round((side - size) / 2)


def weights(n: int, m: int, first: int, count: int, kind: str) -> tuple[int, np.ndarray]:
    """Rows first .. first + count of the matrix that resizes an axis from n to m pixels, without its zero columns.

    Returns:
        low: the first source pixel that matters.
        matrix: float32 `[count, L]` for the source pixels low .. low + L.
    """
    longer = max(n, m)
    radius = 2 if kind == "bicubic" else 1
    reach = radius * longer / m
    low = max(0, int((first + 0.5) * n / m - reach))
    high = min(n, int((first + count - 0.5) * n / m + reach) + 1)
    i, j = np.arange(low, high, dtype=np.int64), np.arange(first, first + count, dtype=np.int64)[:, None]
    t = np.abs((2 * i + 1) * m - (2 * j + 1) * n) / (2.0 * longer)
    if kind == "bicubic":
        near, far = (1.5 * t - 2.5) * t * t + 1.0, ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
        k = np.where(t < 1.0, near, np.where(t < 2.0, far, 0.0))
    else:
        k = np.maximum(0.0, 1.0 - t)
    return low, (k / k.sum(axis=1, keepdims=True)).astype(np.float32)


def prepare(pixels: np.ndarray, spec: Preprocess) -> np.ndarray:
    """The oracle: two matrix products per block of rows, nothing but numpy.

    Args:
        pixels: as `check_pixels` returns them.

    Returns:
        float32 `[C, S, S]`.
    """
    height, width = pixels.shape[:2]
    tall, wide = resized(spec, height, width)
    pixels = pixels.reshape(height, width, -1)[:, :, :3]
    low, high = spec.window16 if pixels.dtype == np.uint16 else (0.0, 255.0)
    top = np.iinfo(pixels.dtype).max

    across = [weights(width, wide, j, c, spec.filter) for j, c in _blocks(corner(wide, spec.size), spec.size)]
    left = across[0][0]
    right = across[-1][0] + across[-1][1].shape[1]

    def window(first: int, last: int) -> np.ndarray:
        rows = pixels[first:last, left:right].astype(np.float32).reshape(last - first, -1)
        if low != 0.0:
            rows -= np.float32(low)
        if low > 0.0:
            np.maximum(rows, np.float32(0.0), out=rows)
        if high < top:
            np.minimum(rows, np.float32(high - low), out=rows)
        return rows

    down = [weights(height, tall, j, c, spec.filter) for j, c in _blocks(corner(tall, spec.size), spec.size)]
    x = _multiply(down, window)  # [S, W C]
    x = x.reshape(spec.size, right - left, -1).transpose(1, 0, 2).reshape(right - left, -1)
    x = _multiply([(first - left, matrix) for first, matrix in across], lambda first, last: x[first:last])
    x = x.reshape(spec.size, spec.size, -1).transpose(2, 1, 0) / np.float32(high - low)  # [C, S, S]
    if spec.channels == 1 and x.shape[0] == 3:
        x = np.einsum("c,chw->hw", LUMA, x)[None]
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    return np.ascontiguousarray((np.clip(x, 0.0, 1.0) - mean) / std)


def _blocks(first: int, count: int) -> list[tuple[int, int]]:
    """(first, count) of consecutive blocks of at most `BLOCK` output rows."""
    return [(j, min(BLOCK, first + count - j)) for j in range(first, first + count, BLOCK)]


def _multiply(matrices: list[tuple[int, np.ndarray]], rows: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """The products of every matrix with the source rows it starts at, one below the other."""
    products = []
    for low, matrix in matrices:
        source = rows(low, low + matrix.shape[1])
        product = np.empty((matrix.shape[0], source.shape[1]), np.float32)
        step = max(1, SERIAL // matrix.size)
        for x in range(0, source.shape[1], step):
            np.matmul(matrix, source[:, x : x + step], out=product[:, x : x + step])
        products.append(product)
    return np.concatenate(products)


class Preprocessor:
    """Prepares images for one model. Safe to call from several threads.

    Args:
        threads: for one image; more threads give the same bits.
        backend: "native" (C++) or "numpy"; None takes native where it is built.

    Attributes:
        backend: the one in use.
        isa: the native kernels in use, "scalar", "avx2" or "avx512", capped by the environment variable EDGEFM_ISA; or "numpy".

    Raises:
        InputError: EDGEFM_ISA holds an unknown word, or `backend` is "native" where the C++ module is not built.
    """

    backend: Literal["native", "numpy"]
    isa: str

    def __init__(self, spec: Preprocess, *, threads: int = 1, backend: Literal["native", "numpy"] | None = None) -> None:
        if backend == "native" and native is None:
            raise InputError("EdgeFM's C++ module is not built here", do="install a C++ compiler and reinstall EdgeFM")
        if threads < 1:
            raise InputError(f"threads is {threads}", expected="at least 1")
        self.spec = spec
        self.threads = threads
        self.backend = backend or ("numpy" if native is None else "native")
        self.isa = native_isa() if self.backend == "native" else "numpy"
        self._fields = msgspec.structs.asdict(spec)

    def __call__(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """One image, prepared.

        Args:
            pixels: uint8 or uint16, `[H, W]` or `[H, W, C]` with C = 1, 3 or 4; rows may be strided.
            out: float32 `[channels, S, S]` to write to, contiguous; None makes one.

        Raises:
            ImageError: other pixels.
            InputError: another `out`.
        """
        pixels = check_pixels(pixels)
        shape = (self.spec.channels, self.spec.size, self.spec.size)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.dtype != np.float32 or out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise InputError(f"out is {out.dtype} {list(out.shape)}", expected=f"a contiguous, writable float32 {list(shape)}")
        if self.backend == "numpy":
            out[...] = prepare(pixels, self.spec)
        else:
            if not pixels[:1].flags.c_contiguous:
                pixels = np.ascontiguousarray(pixels)
            native.preprocess(pixels, **self._fields, out=out, threads=self.threads, isa=self.isa)
        return out


def native_isa() -> str:
    """The native kernels that run here, capped by EDGEFM_ISA. Needs the C++ module."""
    try:
        return str(native.isa())
    except ValueError as error:
        raise InputError(f"EDGEFM_ISA: {error}", do="correct or unset EDGEFM_ISA") from error
