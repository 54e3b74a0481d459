"""PNG with 16 bits in several channels (grey and alpha, RGB, RGBA): exactly as stored, where Pillow cuts it to 8 bits.

Not a PNG library: every other PNG is Pillow's, and so is what this one says besides its pixels. Sections are those of PNG
(third edition, W3C 2025).
"""

from __future__ import annotations

import importlib
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..errors import ImageError

native: Any
try:
    native = importlib.import_module("edgefm._native")
except ImportError:
    native = None

CHANNELS = {2: 3, 4: 2, 6: 4}  # colour type: truecolour, grey and alpha, truecolour and alpha (11.2.1)
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
STEP = 1 << 20  # bytes read or unpacked at once


def is_png16(head: bytes) -> bool:
    """Whether a PNG that begins with these bytes (at least 29) has 16 bits in several channels."""
    return len(head) >= 29 and head[12:16] == b"IHDR" and head[24] == 16 and head[25] in CHANNELS


def read_png16(file: BinaryIO, name: str, width: int, height: int) -> tuple[np.ndarray, bytes]:
    """The pixels of a file for which `is_png16` holds.

    Args:
        file: open anywhere. name: for messages.
        width, height: what the caller has found not to be too large; the header must say the same.

    Returns:
        uint16 `[H, W]` (grey; its alpha is dropped), `[H, W, 3]` or `[H, W, 4]`, contiguous, and the eXIf chunk, or b"".

    Raises:
        ImageError: interlaced.
        ValueError: damaged: cut short, a wrong checksum, too many or too few pixels, an unknown filter.
    """
    chunks = _chunks(file)
    kind, header = next(chunks)
    if kind != b"IHDR" or struct.unpack(">2I", header[:8]) != (width, height) or len(header) != 13:
        raise ValueError("its first chunk is no header, or states another size")
    if header[12]:
        raise ImageError(f"{name} is an interlaced 16-bit PNG", expected="one that is not", do="save it without interlacing")
    channels = CHANNELS[header[9]]
    rows = np.empty((height, 1 + 2 * channels * width), np.uint8)
    exif = _fill(rows, chunks)
    pixels = unfilter(rows, 2 * channels).view(np.uint16).reshape(height, width, channels)
    if sys.byteorder == "little":
        pixels.byteswap(inplace=True)
    return (pixels[..., 0].copy() if channels == 2 else pixels), exif


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of the chunks up to IEND, a long one in pieces; its checksum is looked at behind its last piece (5.3)."""
    file.seek(8)
    kind = b""
    while kind != b"IEND":
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("it is cut short")
        left, kind = struct.unpack(">I4s", start)
        if kind not in CRITICAL and not kind[0] & 32:
            raise ValueError(f"it has a chunk {kind!a} that must be understood and is not known")
        checksum = zlib.crc32(kind)
        while left:
            piece = file.read(min(left, STEP))
            if not piece:
                raise ValueError("it is cut short")
            checksum, left = zlib.crc32(piece, checksum), left - len(piece)
            yield kind, piece
        if file.read(4) != checksum.to_bytes(4, "big"):
            raise ValueError(f"the checksum of a chunk {kind!a} is wrong")


def _fill(rows: np.ndarray, chunks: Iterator[tuple[bytes, bytes]]) -> bytes:
    """Unpack the IDAT chunks into `rows`, never more than fits; the eXIf chunk."""
    flat, filled, exif = rows.reshape(-1), 0, b""
    stream = zlib.decompressobj()
    for kind, piece in chunks:
        if kind == b"IHDR":
            raise ValueError("it has two headers")
        if kind == b"eXIf" and not exif:
            exif = piece
        while kind == b"IDAT" and not stream.eof:
            data = stream.decompress(piece, STEP)
            if len(data) > len(flat) - filled:
                raise ValueError("it holds more pixels than its header says")
            flat[filled : filled + len(data)] = np.frombuffer(data, np.uint8)
            filled += len(data)
            piece = stream.unconsumed_tail
            if not piece and len(data) < STEP:
                break
    if filled < len(flat) or not stream.eof:
        raise ValueError(f"its pixels end after {filled} of {len(flat)} bytes")
    return exif


def unfilter(rows: np.ndarray, pixel_bytes: int) -> np.ndarray:
    """Undo the filters of rows (section 9), in C++ where it is built.

    Args:
        rows: uint8 `[H, 1 + stride]`, contiguous: the filter type, then the bytes of each row.
        pixel_bytes: bytes per pixel, of which `stride` is a multiple.

    Returns:
        uint8 `[H, stride]`, contiguous.

    Raises:
        ValueError: an unknown filter type.
    """
    if native is None:
        return _unfilter(rows, pixel_bytes)
    out = np.empty((rows.shape[0], rows.shape[1] - 1), np.uint8)
    wrong = native.png_unfilter(rows, pixel_bytes, out)
    if wrong >= 0:
        raise ValueError(f"row {wrong} has the unknown filter {rows[wrong, 0]}")
    return out


def _unfilter(rows: np.ndarray, pixel_bytes: int) -> np.ndarray:
    """The same in numpy, one diagonal at a time: a pixel needs those to its left, above, and above that, none of its own."""
    height, width = rows.shape[0], (rows.shape[1] - 1) // pixel_bytes
    filters = rows[:, :1]
    if filters.max() > 4:
        wrong = int(np.argmax(filters > 4))
        raise ValueError(f"row {wrong} has the unknown filter {filters[wrong, 0]}")
    padded = np.zeros((height + 1, width + 1, pixel_bytes), np.uint8)  # a row and a column of zeros before the first
    padded[1:, 1:] = rows[:, 1:].reshape(height, width, pixel_bytes)
    pixels = padded.reshape(-1, pixel_bytes)
    for diagonal in range(height + width - 1):
        low, high = max(0, diagonal - width + 1), min(height - 1, diagonal)  # the rows that it crosses
        first = (low + 1) * (width + 1) + diagonal - low + 1
        here, left, above, corner = (
            pixels[first - back : first - back + (high - low) * width + 1 : width] for back in (0, 1, width + 1, width + 2)
        )
        a, b, c = left.astype(np.int16), above.astype(np.int16), corner.astype(np.int16)
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        nearest = np.where((pa <= pb) & (pa <= pc), a, np.where(pb <= pc, b, c))
        expected = np.choose(filters[low : high + 1], (np.zeros_like(a), a, b, (a + b) // 2, nearest))
        here += expected.astype(np.uint8)
    return np.ascontiguousarray(padded[1:, 1:]).reshape(height, width * pixel_bytes)
