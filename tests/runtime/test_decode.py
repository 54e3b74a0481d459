"""Every way in which a file can hold pixels, and every way in which it can fail to."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm.errors import ImageError
from edgefm.runtime import decode as module
from edgefm.runtime.decode import decode

RAMP = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5) * 8
COLOUR = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
DEEP = (np.arange(6 * 5, dtype=np.uint16).reshape(6, 5) * 2000) + 7


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, tags: dict[int, tuple[int, int]]) -> bytes:
    """A little-endian TIFF by hand: one strip; `tags` adds or replaces (number, (type, value))."""
    height, width = pixels.shape[:2]
    data = pixels.tobytes()
    bits = pixels.dtype.itemsize * 8
    entries = {256: (4, width), 257: (4, height), 258: (3, bits), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1)}
    entries |= {278: (4, height), 279: (4, len(data))} | tags
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items()))
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(entries)) + directory + bytes(4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("pixels", [RAMP, COLOUR[..., :3], RAMP > 100], ids=["grey", "colour", "1-bit"])
def test_lossless_8_bit_files_give_back_their_pixels(kind, pixels):
    got = decode(encoded(pixels, kind))
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, pixels * np.uint8(255) if pixels.dtype == bool else pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WebP"])
def test_alpha_is_kept_as_a_fourth_channel(kind):
    np.testing.assert_array_equal(decode(encoded(COLOUR, kind, lossless=True, exact=True)), COLOUR)


def test_alpha_of_a_grey_image_is_dropped():
    image = Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)])
    np.testing.assert_array_equal(decode(encoded(image)), RAMP)


def test_a_palette_becomes_its_colours_and_transparency_becomes_alpha():
    image = Image.fromarray(COLOUR[..., :3]).quantize(16)
    np.testing.assert_array_equal(decode(encoded(image)), np.asarray(image.convert("RGB")))
    got = decode(encoded(image, transparency=0))
    assert got.shape == (6, 5, 4)
    assert set(np.unique(got[..., 3])) == {0, 255}


def test_cmyk_and_greyscale_jpeg():
    assert decode(encoded(Image.fromarray(COLOUR[..., :3]).convert("CMYK"), "JPEG")).shape == (6, 5, 3)
    assert decode(encoded(RAMP, "JPEG")).shape == (6, 5)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_never_cut_to_8(kind):
    got = decode(encoded(DEEP, kind))
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, DEEP)


def test_a_big_endian_tiff_has_native_bytes_afterwards():
    file = io.BytesIO()
    Image.frombytes("I;16B", (5, 6), DEEP.astype(">u2").tobytes()).save(file, "TIFF")
    got = decode(file.getvalue())
    assert got.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(got, DEEP)


def test_white_is_zero_is_inverted_at_8_and_at_16_bits():
    np.testing.assert_array_equal(decode(tiff(RAMP, {262: (3, 0)})), 255 - RAMP)
    np.testing.assert_array_equal(decode(tiff(DEEP, {262: (3, 0)})), 65535 - DEEP)


def test_32_bit_integers_are_read_if_they_fit_16_and_refused_if_not():
    np.testing.assert_array_equal(decode(tiff(DEEP.astype(np.int32), {339: (3, 2)})), DEEP)
    with pytest.raises(ImageError, match=r"pixel values from 0 to 70000; expected 0 to 65535"):
        decode(tiff(np.array([[0, 70000]], np.int32), {339: (3, 2)}))
    with pytest.raises(ImageError, match="pixel values from -5"):
        decode(tiff(np.array([[-5, 3]], np.int16), {339: (3, 2)}))


def test_signed_8_bit_and_floating_point_tiffs_are_refused():
    with pytest.raises(ImageError, match="signed 8-bit"):
        decode(tiff(np.array([[-5, 3]], np.int8), {339: (3, 2)}))
    with pytest.raises(ImageError, match="floating-point"):
        decode(encoded(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"))


def test_a_16_bit_colour_tiff_is_refused_because_pillow_would_cut_it():
    bits = b"\x10\0\x10\0\x10\0"  # three 16-bit samples, stored at the end of the file
    pixels = np.zeros((2, 2, 3), np.uint16)
    data = tiff(pixels, {262: (3, 2), 277: (3, 3)})
    at = data.index(struct.pack("<HHI", 258, 3, 1))
    data = data[:at] + struct.pack("<HHII", 258, 3, 3, len(data)) + data[at + 12 :] + bits
    with pytest.raises(ImageError, match=r"16 bits in each of 3 channels; .*\. Save it as 16-bit PNG, which is read exactly"):
        decode(data)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_low_depth_grey_png_covers_the_full_range(bits):
    top = (1 << bits) - 1
    got = decode(png(1, 2, bits, 0, bytes([0, 0, 0, top << (8 - bits)])))
    np.testing.assert_array_equal(got, [[0], [255]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WebP"])
def test_exif_orientation_is_applied_once(kind, orientation):
    wide = np.zeros((32, 64), np.uint8)
    wide[:16, :16] = 250  # top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(wide).convert("RGB") if kind == "WebP" else Image.fromarray(wide)
    got = decode(encoded(image, kind, exif=exif.tobytes()))
    got = got[..., 0] if got.ndim == 3 else got
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert got.shape == ((32, 64) if orientation < 5 else (64, 32))
    assert got[corners[orientation]] > 200
    assert (got > 125).sum() == pytest.approx(256, abs=40)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WebP"])
def test_a_file_of_several_frames_needs_one_to_be_stated(kind):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 100, 200)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WebP" else {}))
    with pytest.raises(ImageError, match=r"holds 3 frames\. State which one, from 0 to 2: --frame N, .* --set data\.frame=N, "):
        decode(data)
    assert decode(data, frame=0).flat[0] == 10
    assert decode(data, frame=2).flat[0] == 200
    with pytest.raises(ImageError, match="no frame 3"):
        decode(data, frame=3)


def test_a_stated_frame_of_a_single_image_is_0_or_an_error():
    assert decode(encoded(RAMP), frame=0).shape == (6, 5)
    with pytest.raises(ImageError, match="holds 1 frame, so there is no frame 1"):
        decode(encoded(RAMP), frame=1)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WebP"])
def test_a_file_cut_anywhere_is_refused_or_still_whole(kind):
    pixels = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    data = encoded(pixels, kind)
    whole = decode(data)
    refused = 0
    for length in range(len(data)):
        try:
            got = decode(data[:length])
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(got, whole)  # only trailing bytes that hold no pixels are missing
    assert refused > 0.8 * len(data)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WebP"])
def test_a_damaged_byte_never_raises_anything_but_an_image_error(kind):
    rng = np.random.default_rng(2)
    data = encoded(COLOUR[..., :3], kind)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            got = decode(bytes(damaged), frame=0)
        except ImageError:
            continue
        assert got.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize("name", ["scan.png", "scan.dcm", "scan"])
def test_the_content_decides_and_not_the_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(RAMP, "BMP"))
    np.testing.assert_array_equal(decode(path), RAMP)
    np.testing.assert_array_equal(decode(str(path)), RAMP)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png does not exist"):
        decode(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be opened"):
        decode("a\0b.png")


def test_an_empty_file_a_folder_a_pipe_and_text_are_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png is empty"):
        decode(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="is a folder"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        decode(tmp_path / "pipe")
    (tmp_path / "notes.png").write_text("a text called .png")
    with pytest.raises(ImageError, match=r"starts with text\); expected PNG, JPEG"):
        decode(tmp_path / "notes.png")
    with pytest.raises(ImageError, match="the image of 12 bytes is no image"):
        decode(b"RIFF\0\0\0\0WAVE")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(RAMP))
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        decode(path)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked():
    bomb = png(100_000, 100_000, 8, 0, b"")
    with pytest.raises(ImageError, match=r"100000 x 100000 pixels; expected at most 300 million"):
        decode(bomb)


def test_an_image_of_100_megapixels_is_read_without_a_warning(recwarn):
    assert decode(encoded(Image.new("1", (10_000, 10_000)))).shape == (10_000, 10_000)
    assert not recwarn.list


def test_the_limit_is_our_own_and_pillows_stays_as_it_was(monkeypatch):
    before = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(module, "MAX_PIXELS", 20)
    with pytest.raises(ImageError, match="5 x 6 pixels"):
        decode(encoded(RAMP))
    assert before == Image.MAX_IMAGE_PIXELS


def test_importing_and_decoding_a_png_leaves_pydicom_and_unused_plugins_alone(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RAMP))
    code = (
        "import sys; from edgefm.runtime.decode import decode; decode(sys.argv[1]);"
        "print([m for m in ('pydicom', 'torch', 'PIL.TiffImagePlugin', 'PIL.JpegImagePlugin') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
