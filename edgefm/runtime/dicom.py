"""A DICOM file to the pixels that a viewer shows first: PS3.3, C.7.6.3 (pixels) and C.11 (look-up tables).

Not a viewer and not a converter: overlays, presentation states, annotations and all but one frame are ignored.

Grey, step by step, each a function of the stored value alone, so all of it becomes one table:

1. **modality** (C.11.1): the Modality LUT Sequence, else slope * stored + intercept.
2. **values of interest** (C.11.2): the VOI LUT Sequence, else the first window by its function (LINEAR, LINEAR_EXACT,
   SIGMOID). With neither the transformation is the identity, as C.11.2 has it: the full range of Bits Stored, not the
   range that happens to occur in this image, so equal values stay equal between images.
3. **polarity**: MONOCHROME1 is inverted, so that more is brighter everywhere.
4. **padding** (Pixel Padding Value and Range Limit, C.7.5.1.1.2) becomes 0.

Multi-frame objects bring 1 and 2 per frame in functional groups (C.7.6.16); those are used.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from ..errors import EdgeFMError, ImageError, MissingExtra
from .decode import check_size, choose_frame

if TYPE_CHECKING:
    from pydicom import Dataset

_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREY = ("MONOCHROME1", "MONOCHROME2")
# transfer syntax -> decoder: "" for uncompressed, else pydicom's plugin or imagecodecs;
# one each, so that a file has the same pixels on every machine
_PLUGINS = {
    "1.2.840.10008.1.2": "",
    "1.2.840.10008.1.2.1": "",
    "1.2.840.10008.1.2.1.99": "",
    "1.2.840.10008.1.2.2": "",
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG
    "1.2.840.10008.1.2.4.51": "pillow",
    "1.2.840.10008.1.2.4.57": "imagecodecs",  # lossless JPEG
    "1.2.840.10008.1.2.4.70": "imagecodecs",
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
_PACKAGES = {"pyjpegls": "pyjpegls", "pylibjpeg": "pylibjpeg-openjpeg"}


def decode_dicom(file: BinaryIO, name: str, *, frame: int | None = None) -> np.ndarray:
    """The pixels of one frame as a viewer shows them.

    Args:
        file: open at its start. name: for messages. frame: from 0; None refuses a file with several.

    Returns:
        grey: uint16 `[H, W]` over 0 .. 65535; colour: uint8 `[H, W, 3]`, RGB.

    Raises:
        ImageError: no DICOM, no pixels, damaged, several frames and none stated, or pixels of a kind that is not shown
            (more than 16 bits, floating point, video, colour beyond 8 bits).
        MissingExtra: pydicom, or the decoder of this file's compression, is not installed.
    """
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise MissingExtra("pydicom", "dicom", f"reading the DICOM file {name}") from error
    try:
        ds = dcmread(file, force=True)
        _check(ds, name)
        rows, columns = int(ds.Rows), int(ds.Columns)
        check_size(name, columns, rows)
        chosen = choose_frame(name, int(ds.get("NumberOfFrames") or 1), frame)
        stored = _stored(ds, name, chosen)
        if ds.PhotometricInterpretation in _GREY:
            shown = _grey(ds, chosen, stored)
        elif ds.PhotometricInterpretation == "PALETTE COLOR":
            shown = _palette(ds, stored)
        else:
            shown = stored
    except EdgeFMError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} does not fit in memory") from error
    except Exception as error:  # pydicom and the decoders behind it raise anything on damaged files
        reason = " ".join(str(error).split())[:200].rstrip(". ") or type(error).__name__
        raise ImageError(f"{name} is a damaged DICOM file ({reason})", do="export it again, uncompressed") from error
    return np.ascontiguousarray(shown)


def _check(ds: Dataset, name: str) -> None:
    """Refuse, by its name, what cannot be shown."""
    kind = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
    if "PixelData" not in ds:
        if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
            raise ImageError(f"{name} has floating-point pixels", expected="8 to 16 bits")
        if kind is None:
            raise ImageError(f"{name} is no DICOM image", expected="a DICOM file with pixels", do="check the path")
        what = kind.name if hasattr(kind, "name") else kind
        raise ImageError(f"{name} is DICOM without an image ({what})", expected="a DICOM file with pixels", do="leave it out")
    missing = [word for word in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation") if ds.get(word) is None]
    if missing:
        raise ImageError(f"{name} is DICOM without {', '.join(missing)}", do="export it again")
    colour, samples, bits = ds.PhotometricInterpretation, int(ds.get("SamplesPerPixel") or 1), int(ds.BitsAllocated)
    grey = colour in _GREY or colour == "PALETTE COLOR"
    if not (grey and samples == 1) and not (colour in _COLOUR and samples == 3):
        raise ImageError(
            f"{name} is DICOM of kind {colour} with {samples} samples per pixel", expected=", ".join(_GREY + _COLOUR)
        )
    limit = 16 if grey else 8
    if bits > limit:
        what = "grey" if grey else "colour"
        raise ImageError(
            f"{name} has {bits} bits per sample", expected=f"at most {limit} for {what}", do="export it with fewer bits"
        )
    if int(ds.get("HighBit", -1)) not in (-1, int(ds.get("BitsStored") or bits) - 1):
        raise ImageError(f"{name} stores its pixels in the upper bits (High Bit {ds.HighBit})", do="export it again")


def _stored(ds: Dataset, name: str, frame: int) -> np.ndarray:
    """Stored values `[H, W]`, or RGB `[H, W, 3]`."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # a data set without a header says by its layout what it is
        implicit, little = ds.original_encoding
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = syntax
    plugin = _PLUGINS.get(str(syntax))
    if plugin == "pillow" and ds.BitsAllocated > 8:
        plugin = "imagecodecs"  # Pillow reads 8-bit JPEG only
    if plugin is None:
        raise ImageError(f"{name} is compressed as {syntax.name}, which is not read", do="export it uncompressed")
    if plugin == "imagecodecs":
        return _jpeg(ds, name, frame, syntax.name)
    if plugin and plugin not in get_decoder(syntax).available_plugins:
        raise MissingExtra(_PACKAGES[plugin], "dicom", f"{name} is compressed as {syntax.name}; reading it")
    return pixel_array(ds, index=frame, decoding_plugin=plugin)


def _jpeg(ds: Dataset, name: str, frame: int, syntax: str) -> np.ndarray:
    """Lossless and 12-bit JPEG by libjpeg-turbo 3: pydicom's own choice, gdcm, ends the process on damaged files."""
    try:
        from imagecodecs import jpeg8_decode
    except ImportError as error:
        raise MissingExtra("imagecodecs", "dicom", f"{name} is compressed as {syntax}; reading it") from error
    from pydicom.encaps import get_frame
    from pydicom.pixels.processing import convert_color_space

    data = get_frame(ds.PixelData, frame, number_of_frames=int(ds.get("NumberOfFrames") or 1))
    at = 2
    while data[at] == 0xFF and data[at + 1] not in range(0xC0, 0xC4):  # to the frame header (ITU-T T.81, B.2.2)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    rows, columns, samples = struct.unpack_from(">HHB", data, at + 5)
    if (rows, columns, samples) != (ds.Rows, ds.Columns, ds.get("SamplesPerPixel", 1)):
        raise ValueError(f"its JPEG frame is {columns} x {rows} x {samples}, unlike its header")
    if b"\xff\xd9" not in data[-4:]:  # EOI, perhaps padded to an even length
        raise ValueError("its JPEG frame is truncated")
    if samples == 3:
        pixels = jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")  # as stored
        return convert_color_space(pixels, ds.PhotometricInterpretation, "RGB")
    bits = int(ds.BitsStored)
    pixels = jpeg8_decode(data).astype(np.int32) & ((1 << bits) - 1)
    if ds.get("PixelRepresentation"):
        pixels -= (pixels >> (bits - 1)) << bits
    return np.asarray(pixels)


def _grey(ds: Dataset, frame: int, stored: np.ndarray) -> np.ndarray:
    bits = int(ds.get("BitsStored") or ds.BitsAllocated)
    low = -(1 << (bits - 1)) if ds.get("PixelRepresentation") else 0
    ramp = np.arange(low, low + (1 << bits), dtype=np.int64)
    shown = _interest(ds, frame, *_modality(ds, frame, ramp))
    if ds.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    padding = ds.get("PixelPaddingValue")
    if padding is not None:
        ends = [int(padding), int(ds.get("PixelPaddingRangeLimit", padding))]
        ends = [end - (1 << 16) if low < 0 and end >= 1 << 15 else end for end in ends]  # written unsigned, meant signed
        shown[(ramp >= min(ends)) & (ramp <= max(ends))] = 0
    table = np.rint(shown * 65535).astype(np.uint16)
    # lossy compression may overshoot Bits Stored
    return np.asarray(table[np.clip(stored.astype(np.int32) - low, 0, len(table) - 1)])


def _modality(ds: Dataset, frame: int, ramp: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values after the modality transformation (C.11.1), and the ends of their range."""
    if (lut := _lut(ds, "ModalityLUTSequence")) is not None:
        values, bits = _look_up(ds, lut, ramp)
        return values, 0.0, float((1 << bits) - 1)
    item = _group(ds, frame, "PixelValueTransformationSequence")
    slope, intercept = _number(item, "RescaleSlope"), _number(item, "RescaleIntercept")
    values = ramp * (1.0 if slope is None else slope) + (intercept or 0.0)
    low, high = sorted((float(values[0]), float(values[-1])))
    if not low < high:
        raise ValueError(f"the Rescale Slope is {slope}")
    return values, low, high


def _interest(ds: Dataset, frame: int, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Brightness 0 to 1 after the values-of-interest transformation (C.11.2), float64."""
    item = _group(ds, frame, "FrameVOILUTSequence")
    if (lut := _lut(item, "VOILUTSequence")) is not None:
        shown, bits = _look_up(ds, lut, values)
        return shown / ((1 << bits) - 1)
    c, w = _number(item, "WindowCenter"), _number(item, "WindowWidth")
    if c is None or w is None:
        return (values - low) / (high - low)
    function = str(item.get("VOILUTFunction") or "LINEAR")
    if w <= 0 or (function == "LINEAR" and w < 1):
        raise ValueError(f"the Window Width is {w:g}")
    if function == "SIGMOID":  # C.11.2.1.3.1
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - c) / w, -700, 700))))
    if function == "LINEAR_EXACT":  # C.11.2.1.3.2
        return np.clip((values - c) / w + 0.5, 0, 1)
    if w == 1:
        return (values > c - 0.5).astype(np.float64)
    return np.clip((values - (c - 0.5)) / (w - 1) + 0.5, 0, 1)  # C.11.2.1.2.1


def _lut(item: Dataset, keyword: str) -> Dataset | None:
    """The first item of a LUT sequence, or None; some writers leave an empty item."""
    items = item.get(keyword)
    return items[0] if items and items[0].get("LUTDescriptor") and items[0].get("LUTData") else None


def _look_up(ds: Dataset, item: Dataset, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Apply a LUT item: float64 entries, and the bits of an entry. Values beyond its ends take the end (C.11.1.1)."""
    entries, first, bits = (int(word) for word in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        little = ds.original_encoding[1]
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * (entries or 65536) else "<u2" if little else ">u2")
    table = np.asarray(data, np.float64).reshape(-1)[: entries or 65536]
    if first >= 1 << 15 and values[0] < 0:  # written unsigned, meant signed
        first -= 1 << 16
    return table[np.clip(np.floor(values).astype(np.int64) - first, 0, len(table) - 1)], bits


def _palette(ds: Dataset, stored: np.ndarray) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(stored, ds)
    if colours.dtype == np.uint8:
        return colours
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)  # some writers use 8 of the 16 bits


def _group(ds: Dataset, frame: int, keyword: str) -> Dataset:
    """The functional group of a frame (C.7.6.16): its own, else the shared one, else the file's header."""
    own = (ds.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for group in [*own, *(ds.get("SharedFunctionalGroupsSequence") or [])]:
        if items := group.get(keyword):
            return cast("Dataset", items[0])
    return ds


def _number(item: Dataset, keyword: str) -> float | None:
    """The first value of an element; None if it is absent or empty."""
    value: Any = item.get(keyword)
    if value is None or value == "":
        return None
    if isinstance(value, (str, float, int)):
        return float(value)
    return float(value[0]) if len(value) else None
