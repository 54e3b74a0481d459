"""An image file to raw pixels: exactly what is stored, 8 or 16 bits, never rescaled and never cut to 8 bits in silence.

Not preprocessing (`runtime/preprocess.py` windows, resizes and normalises) and not DICOM itself (`runtime/dicom.py`).

The format is told by the first bytes, never by the name. Pillow's plugin classes are used directly rather than through
`PIL.Image.open`: only the one that is needed gets imported, and the size is checked against our own limit before anything
is decompressed, without touching Pillow's process-wide settings.
"""

from __future__ import annotations

import io
import stat
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from ..errors import ImageError
from .png16 import is_png16, read_png16

if TYPE_CHECKING:
    from PIL.Image import Exif, Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 300_000_000
KINDS = "PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM"

# first bytes -> (format, Pillow plugin module, class)
_PLUGINS = {
    b"\x89PNG\r\n\x1a\n": ("PNG", "PngImagePlugin", "PngImageFile"),
    b"\xff\xd8\xff": ("JPEG", "JpegImagePlugin", "JpegImageFile"),
    b"II*\0": ("TIFF", "TiffImagePlugin", "TiffImageFile"),
    b"MM\0*": ("TIFF", "TiffImagePlugin", "TiffImageFile"),
    b"II+\0": ("TIFF", "TiffImagePlugin", "TiffImageFile"),
    b"MM\0+": ("TIFF", "TiffImagePlugin", "TiffImageFile"),
    b"GIF8": ("GIF", "GifImagePlugin", "GifImageFile"),
    b"BM": ("BMP", "BmpImagePlugin", "BmpImageFile"),
    b"RIFF": ("WebP", "WebPImagePlugin", "WebPImageFile"),
}
_COLOUR = {"RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")  # a data set without preamble starts with group 0002 or 0008


def decode(source: str | Path | bytes, *, frame: int | None = None) -> np.ndarray:
    """The pixels of an image file as they are stored.

    Args:
        source: a path, or the bytes of a file.
        frame: which frame of a file that holds several, from 0; None refuses such a file.

    Returns:
        uint8 or uint16, `[H, W]` (grey), `[H, W, 3]` (RGB) or `[H, W, 4]` (RGB and alpha), contiguous, perhaps read-only,
        EXIF orientation applied. Palettes and CMYK become RGB, 1-bit images 0 and 255; alpha of a grey image is dropped.
        DICOM: windowed grey uint16 over 0 .. 65535 or RGB uint8, see `runtime/dicom.py`.

    Raises:
        ImageError: missing, empty, truncated, damaged, larger than `MAX_PIXELS`, not an image, several frames and none
            stated, or pixels that fit neither 8 nor 16 bits.
        MissingExtra: DICOM without pydicom or without the decoder of its compression.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"the image of {len(source)} bytes", "", frame)
    path = Path(source)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise ImageError(f"{path} is {what}", expected="an image file")
        with open(path, "rb") as file:
            return _decode(file, str(path), path.suffix.lower(), frame)
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist", do="check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"{path!s} cannot be opened ({getattr(error, 'strerror', None) or error})") from error


def _decode(file: BinaryIO, name: str, suffix: str, frame: int | None) -> np.ndarray:
    head = file.read(132)
    file.seek(0)
    if not head:
        raise ImageError(f"{name} is empty (0 bytes)", do="copy the file again")
    plugin = next((value for magic, value in _PLUGINS.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] != b"WEBP":
        plugin = None
    if head[128:132] == b"DICM" or (plugin is None and (suffix == ".dcm" or head[:2] in _GROUPS)):
        from .dicom import decode_dicom

        return decode_dicom(file, name, frame=frame)
    if plugin is None:
        start = "text" if head.isascii() and b"\0" not in head else head[:4].hex(" ")
        raise ImageError(f"{name} is no image that EdgeFM reads (it starts with {start})", expected=KINDS)
    kind, module, cls = plugin
    try:
        with cast("ImageFile", getattr(import_module(f"PIL.{module}"), cls)(file)) as image:
            check_size(name, *image.size)
            _choose_frame(image, name, kind, frame)
            if kind == "PNG" and is_png16(head):
                return _read_png16(file, image, name)
            _refuse_lost_depth(image, name, kind)
            return _read(image, name, kind)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} does not fit in memory") from error
    except Exception as error:  # Pillow's parsers raise anything from SyntaxError to struct.error on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is a damaged {kind} file ({reason})", do="copy or export it again") from error


def from_pillow(image: Image, name: str = "the image") -> np.ndarray:
    """The pixels of an open Pillow image (its current frame), the same as `decode` finds in its file.

    Returns and raises: as `decode`. Only 16-bit colour comes as the 8 bits that Pillow has cut it to before.
    """
    check_size(name, *image.size)
    try:
        return _read(image, name, getattr(image, "format", None) or "")
    except ImageError:
        raise
    except Exception as error:  # an image that was opened and not yet read may be damaged, or its file closed
        raise ImageError(f"{name} cannot be read ({' '.join(str(error).split()) or type(error).__name__})") from error


def _read(image: Image, name: str, kind: str) -> np.ndarray:
    image.load()
    pixels = _pixels(image, name)
    if kind == "TIFF" and pixels.dtype == np.uint16 and _tiff(image, 262, 1) == 0:
        pixels = 65535 - pixels  # Pillow inverts WhiteIsZero at 8 bits, not at 16
    return np.ascontiguousarray(_upright(image.getexif(), pixels))


def _read_png16(file: BinaryIO, image: ImageFile, name: str) -> np.ndarray:
    """16 bits in several channels, for which Pillow has no mode; what the file says besides its pixels is Pillow's."""
    if getattr(image, "n_frames", 1) > 1:
        raise ImageError(f"{name} is an animated PNG with 16 bits per channel", do="save the frame as a PNG of its own")
    from PIL.Image import Image

    pixels, exif = read_png16(file, name, *image.size)
    image.info.setdefault("exif", exif or None)
    # not the PNG class's own getexif, which would decode the pixels to look for EXIF behind them
    return np.ascontiguousarray(_upright(Image.getexif(image), pixels))


def check_size(name: str, width: int, height: int) -> None:
    """Raise `ImageError` for an image without pixels or with more than `MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width} x {height})", expected="at least 1 x 1")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels",
            expected=f"at most {MAX_PIXELS // 1_000_000} million",
            do="cut it into tiles or scale it down",
        )


def choose_frame(name: str, frames: int, frame: int | None) -> int:
    """The frame to read, from 0. Raises `ImageError` if there are several and none is stated, or it does not exist."""
    if frame is None and frames > 1:
        raise ImageError(
            f"{name} holds {frames} frames",
            do=f"state which one, from 0 to {frames - 1}: --frame N, for a data set --set data.frame=N, in Python frame=N",
        )
    if frame is not None and not 0 <= frame < frames:
        raise ImageError(f"{name} holds {frames} frame{'s' * (frames > 1)}, so there is no frame {frame} (counted from 0)")
    return frame or 0


def _choose_frame(image: ImageFile, name: str, kind: str, frame: int | None) -> None:
    chosen = choose_frame(name, getattr(image, "n_frames", 1), frame)
    if chosen:
        image.seek(chosen)
        check_size(name, *image.size)


def _refuse_lost_depth(image: ImageFile, name: str, kind: str) -> None:
    """Pillow has no mode for 16-bit colour and cuts it to 8 bits without a word."""
    if kind != "TIFF":
        return
    depths = _tiff(image, 258, (1,))
    if max(depths) == 8 and 2 in np.atleast_1d(_tiff(image, 339, 1)):
        raise ImageError(f"{name} has signed 8-bit pixels", expected="unsigned 8 or 16 bits")
    if max(depths) > 8 and len(depths) > 1:
        raise ImageError(
            f"{name} is a TIFF file with {max(depths)} bits in each of {len(depths)} channels",
            expected="16 bits only in grey TIFF files",
            do="save it as 16-bit PNG, which is read exactly",
        )


def _tiff(image: Image, tag: int, default: Any) -> Any:
    return cast(Any, image).tag_v2.get(tag, default)


def _pixels(image: Image, name: str) -> np.ndarray:
    mode = image.mode
    if mode in ("L", "LA", "La"):
        return np.asarray(image if mode == "L" else image.convert("LA").getchannel(0))
    if mode == "1":
        return np.asarray(image.convert("L"))
    if mode == "P":
        return np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
    if mode in _COLOUR:
        return np.asarray(image if mode == _COLOUR[mode] else image.convert(_COLOUR[mode]))
    if mode.startswith("I"):
        pixels = np.asarray(image)
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 65535:
            raise ImageError(
                f"{name} has pixel values from {low} to {high}", expected="0 to 65535", do="rescale and save it as 16-bit grey"
            )
        return pixels.astype(np.uint16)
    what = "floating-point pixels" if mode == "F" else f"pixels of mode {mode}"
    raise ImageError(f"{name} has {what}", expected="8- or 16-bit grey or 8-bit colour", do="convert it to PNG")


def _upright(exif: Exif, pixels: np.ndarray) -> np.ndarray:
    """Apply the EXIF orientation (tag 0x0112, 1 to 8). A TIFF that Pillow has already turned carries none any more."""
    orientation = exif.get(0x0112, 1)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
