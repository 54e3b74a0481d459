"""16-bit PNG in several channels: damaged files first, then every filter, C++ and numpy held to each other and to Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from edgefm.errors import ImageError
from edgefm.runtime import png16
from edgefm.runtime.decode import decode

TYPES = {2: 4, 3: 2, 4: 6}  # channels to colour type
KINDS = pytest.mark.parametrize("channels", TYPES, ids=["grey and alpha", "RGB", "RGBA"])


@pytest.fixture(params=["native", "numpy"])
def backend(request, monkeypatch):
    """Both ways of undoing filters."""
    if request.param == "numpy":
        monkeypatch.setattr(png16, "native", None)
    elif png16.native is None:
        pytest.skip("the C++ module is not built")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def picture(height: int, width: int, channels: int) -> np.ndarray:
    """Slopes with noise, so that no filter is idle and bytes overflow."""
    rng = np.random.default_rng([height, width, channels])
    slope = np.arange(height)[:, None, None] * 911 + np.arange(width)[None, :, None] * 1777 + np.arange(channels) * 9000
    return ((slope + rng.integers(0, 700, (height, width, channels))) % 65536).astype(np.uint16)


def filtered(pixels: np.ndarray, filters: Sequence[int]) -> bytes:
    """Section 9.2, as a writer does it: each row with the filter of its turn."""
    height, width, channels = pixels.shape
    raw = np.zeros((height + 1, (width + 1) * 2 * channels), np.int64)
    raw[1:, 2 * channels :] = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    x, a = raw[1:, 2 * channels :], raw[1:, : -2 * channels]
    b, c = raw[:-1, 2 * channels :], raw[:-1, : -2 * channels]
    p = a + b - c
    order = np.argmin([abs(p - a), abs(p - b), abs(p - c)], axis=0)  # the first of equals
    predicted = np.array([0 * a, a, b, (a + b) // 2, np.choose(order, [a, b, c])])
    kinds = np.resize(np.array(filters), height)
    rows = ((x - predicted[kinds, np.arange(height)]) % 256).astype(np.uint8)
    return np.hstack([kinds[:, None].astype(np.uint8), rows]).tobytes()


def png(
    pixels: np.ndarray, filters: Sequence[int] = (4, 3, 2, 1, 0), *, pieces: int = 1, before: bytes = b"", **fields
) -> bytes:
    """A PNG file of `[H, W, C]` uint16; `fields` replaces width, height, interlace, rows (before they are packed) or packed."""
    height, width, channels = pixels.shape
    header = struct.pack(
        ">2I5B", fields.get("width", width), fields.get("height", height), 16, TYPES[channels], 0, 0, fields.get("interlace", 0)
    )
    packed = fields.get("packed") or zlib.compress(fields.get("rows") or filtered(pixels, filters))
    step = -(-len(packed) // pieces)
    data = b"".join(chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + fields.get("after", b"") + chunk(b"IEND", b"")


def expected(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.shape[2] == 2 else pixels


@KINDS
def test_a_damaged_byte_anywhere_is_an_image_error_and_never_another_picture(channels):
    pixels = picture(5, 7, channels)
    data = png(pixels, pieces=3, before=chunk(b"tEXt", b"Comment\0none"))
    for at in range(len(data)):
        for change in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= change
            with pytest.raises(ImageError):
                decode(bytes(damaged), frame=0)


def test_a_file_cut_at_any_length_is_refused():
    data = png(picture(4, 5, 3), pieces=2)
    for length in range(1, len(data)):
        with pytest.raises(ImageError):
            decode(data[:length])


@pytest.mark.usefixtures("backend")
def test_damage_behind_right_checksums_is_refused_or_gives_pixels_of_the_stated_size():
    rng = np.random.default_rng(0)
    pixels = picture(9, 8, 4)
    packed = zlib.compress(filtered(pixels, (0, 1, 2, 3, 4)))
    refused = 0
    for _ in range(400):
        damaged = bytearray(packed)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            assert decode(png(pixels, packed=bytes(damaged))).shape == (9, 8, 4)
        except ImageError:
            refused += 1
    assert refused > 300  # the checksum inside the packed data finds the rest


@pytest.mark.usefixtures("backend")
def test_an_unknown_filter_is_refused():
    pixels = picture(3, 2, 3)
    rows = bytearray(filtered(pixels, (4,)))
    rows[13] = 5  # the filter of row 1
    with pytest.raises(ImageError, match=r"damaged PNG file \(row 1 has the unknown filter 5\)"):
        decode(png(pixels, rows=bytes(rows)))


def test_too_few_and_too_many_pixels_are_refused():
    pixels = picture(4, 5, 3)
    rows = filtered(pixels, (0,))
    with pytest.raises(ImageError, match=r"its pixels end after 123 of 124 bytes"):
        decode(png(pixels, rows=rows[:-1]))
    with pytest.raises(ImageError, match="more pixels than its header says"):
        decode(png(pixels, rows=rows + b"\0"))
    with pytest.raises(ImageError, match="its pixels end after 124 of 124 bytes"):
        decode(png(pixels, packed=zlib.compress(rows)[:-4]))  # without its checksum


def test_a_bomb_is_refused_by_its_header_or_after_what_fits():
    bomb = zlib.compress(bytes(1 << 24), 9)
    with pytest.raises(ImageError, match="expected at most 300 million"):
        decode(png(picture(1, 1, 3), width=1 << 16, height=1 << 16, packed=bomb))
    with pytest.raises(ImageError, match="more pixels than its header says"):
        decode(png(picture(1, 1, 3), width=3, height=3, packed=bomb))


def test_interlaced_animated_and_strange_files_are_refused_in_a_line():
    pixels = picture(4, 5, 3)
    with pytest.raises(ImageError, match=r"interlaced 16-bit PNG; .* Save it without interlacing"):
        decode(png(pixels, interlace=1))
    control = struct.pack(">5I2H2B", 0, 5, 4, 0, 0, 1, 10, 0, 0)
    animated = chunk(b"acTL", struct.pack(">2I", 2, 0)) + chunk(b"fcTL", control)
    with pytest.raises(ImageError, match="holds 2 frames"):
        decode(png(pixels, before=animated))
    with pytest.raises(ImageError, match="animated PNG with 16 bits per channel"):
        decode(png(pixels, before=animated), frame=0)
    with pytest.raises(ImageError, match="must be understood and is not known"):
        decode(png(pixels, after=chunk(b"NEWS", b"?")))
    header = chunk(b"IHDR", struct.pack(">2I5B", 5, 4, 16, 2, 0, 0, 0))
    with pytest.raises(ImageError, match="two headers"):
        decode(png(pixels, after=header))


@KINDS
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("filters", [(0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0), (0, 4, 1, 3, 2)])
def test_every_filter_gives_back_the_pixels(channels, filters):
    for size in ((1, 1), (1, 9), (9, 1), (13, 11), (11, 40)):
        pixels = picture(*size, channels)
        got = decode(png(pixels, filters))
        assert got.dtype == np.uint16
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, expected(pixels))


def test_the_high_bytes_are_what_pillow_reads():
    pixels = picture(37, 53, 3)
    data = png(pixels, pieces=5)
    np.testing.assert_array_equal(decode(data) >> 8, np.asarray(Image.open(io.BytesIO(data))))


def test_native_and_numpy_undo_the_same_noise_alike(monkeypatch):
    pytest.importorskip("edgefm._native", reason="the C++ module is not built")
    rng = np.random.default_rng(1)
    for width, pixel_bytes in ((1, 8), (7, 6), (64, 4), (200, 8)):
        rows = rng.integers(0, 256, (50, 1 + width * pixel_bytes), np.uint8)
        rows[:, 0] %= 5
        native = png16.unfilter(rows, pixel_bytes)
        with monkeypatch.context() as patch:
            patch.setattr(png16, "native", None)
            np.testing.assert_array_equal(png16.unfilter(rows, pixel_bytes), native)


def test_pixels_longer_than_one_step_and_split_anywhere_are_put_together(monkeypatch):
    monkeypatch.setattr(png16, "STEP", 64)
    pixels = picture(30, 31, 3)
    for pieces in (1, 7, 400):
        np.testing.assert_array_equal(decode(png(pixels, pieces=pieces)), pixels)
    flat = np.zeros((300, 30, 3), np.uint16)  # one packed byte becomes many
    np.testing.assert_array_equal(decode(png(flat, pieces=3)), flat)


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_orientation_is_applied_wherever_it_stands(place):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = picture(4, 7, 3)
    got = decode(png(pixels, **{place: chunk(b"eXIf", exif.tobytes()[6:])}))
    np.testing.assert_array_equal(got, np.rot90(pixels, -1))


@pytest.mark.parametrize(
    "change",
    [
        {"rows": np.zeros((3, 13), np.uint16)},
        {"rows": np.zeros(13, np.uint8)},
        {"rows": np.zeros((3, 26), np.uint8)[:, ::2]},
        {"rows": np.zeros((3, 0), np.uint8)},
        {"rows": np.zeros((4, 13), np.uint8)},
        {"pixel_bytes": 0},
        {"pixel_bytes": 9},
        {"out": np.zeros((3, 11), np.uint8)},
        {"out": np.zeros((3, 12), np.int8)},
        {"out": np.broadcast_to(np.uint8(0), (3, 12))},
    ],
)
def test_bad_arguments_of_the_native_function_raise_and_never_crash(change):
    native = pytest.importorskip("edgefm._native", reason="the C++ module is not built")
    arguments = {"rows": np.zeros((3, 13), np.uint8), "pixel_bytes": 6, "out": np.zeros((3, 12), np.uint8)}
    assert native.png_unfilter(**arguments) == -1
    with pytest.raises((ValueError, TypeError)):
        native.png_unfilter(**{**arguments, **change})
