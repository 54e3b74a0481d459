"""DICOM as a viewer shows it: a synthetic file for each rule of the standard. Damaged and real files: test_dicom_files.py."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="needs the extra [dicom]")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import UID  # noqa: E402

from edgefm.errors import ImageError  # noqa: E402
from edgefm.runtime.decode import decode  # noqa: E402

EXPLICIT, IMPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
CT = "1.2.840.10008.5.1.4.1.1.2"
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def dicom(
    pixels: np.ndarray | None = RAMP, *, syntax: str = EXPLICIT, kind: str = CT, data: bytes | None = None, **elements: object
) -> bytes:
    """A DICOM file of `pixels` (12 bits stored unless stated); `elements` are added by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID(kind)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID = UID(kind), UID("1.2.3")
    if pixels is not None:
        bits = pixels.dtype.itemsize * 8
        ds.Rows, ds.Columns = pixels.shape[-2:] if elements.get("SamplesPerPixel", 1) == 1 else pixels.shape[:2]
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated = bits
        ds.BitsStored = elements.pop("BitsStored", 12 if bits == 16 else bits)
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        ds.PixelData = (
            data if data is not None else pixels.astype(pixels.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
        )
        ds["PixelData"].VR = "OW" if bits > 8 else "OB"
        if data is not None:
            ds["PixelData"].is_undefined_length = True
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(file, enforce_file_format=True, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    return file.getvalue()


def shares(pixels: np.ndarray) -> np.ndarray:
    """Brightness 0 to 1, in the order of `RAMP`."""
    return pixels.ravel() / 65535


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
def test_without_a_window_the_full_range_of_bits_stored_is_shown(syntax):
    got = decode(dicom(syntax=syntax))
    assert got.dtype == np.uint16
    assert got.shape == (64, 64)
    np.testing.assert_array_equal(got.ravel(), np.rint(np.arange(4096) / 4095 * 65535))


def test_the_range_is_that_of_the_type_and_not_of_this_image():
    np.testing.assert_array_equal(decode(dicom(RAMP // 2))[0], np.rint((np.arange(64) // 2) / 4095 * 65535))
    signed = np.array([[-2048, 0, 2047]], np.int16)
    np.testing.assert_allclose(shares(decode(dicom(signed))), [0, 2048 / 4095, 1], atol=1e-5)
    sixteen = np.array([[0, 1, 65534, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(dicom(sixteen, BitsStored=16)), sixteen)
    np.testing.assert_array_equal(decode(dicom(np.array([[0, 128, 255]], np.uint8))), [[0, 32896, 65535]])


def test_a_linear_window_is_that_of_the_standard():
    x = np.arange(4096)
    c, w = 1000, 400
    expected = np.clip((x - (c - 0.5)) / (w - 1) + 0.5, 0, 1)
    got = shares(decode(dicom(WindowCenter=c, WindowWidth=w)))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got[800] == 0
    assert got[1200] == 1
    np.testing.assert_array_equal(decode(dicom(WindowCenter=1000, WindowWidth=1)).ravel() > 0, x >= 1000)


def test_linear_exact_and_sigmoid_windows():
    x = np.arange(4096)
    got = shares(decode(dicom(WindowCenter=1000, WindowWidth=400, VOILUTFunction="LINEAR_EXACT")))
    np.testing.assert_allclose(got, np.clip((x - 1000) / 400 + 0.5, 0, 1), atol=1e-5)
    got = shares(decode(dicom(WindowCenter=1000, WindowWidth=400, VOILUTFunction="SIGMOID")))
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-4 * (x - 1000) / 400)), atol=1e-5)


def test_the_first_of_several_windows_is_taken_and_an_empty_one_is_none():
    first = decode(dicom(WindowCenter=1000, WindowWidth=400))
    np.testing.assert_array_equal(decode(dicom(WindowCenter=[1000, 50], WindowWidth=[400, 10])), first)
    np.testing.assert_array_equal(decode(dicom(WindowCenter=None, WindowWidth=None)), decode(dicom()))


def test_a_window_without_width_is_refused():
    with pytest.raises(ImageError, match="Window Width is 0"):
        decode(dicom(WindowCenter=100, WindowWidth=0))


def test_rescale_comes_before_the_window():
    plain = decode(dicom(WindowCenter=1000, WindowWidth=400))
    shifted = decode(dicom(RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=2 * 1000 - 1024, WindowWidth=800))
    assert np.abs(plain.astype(int) - shifted).max() <= 65535 / 400
    assert shares(decode(dicom(RescaleSlope=-1, RescaleIntercept=0)))[[0, -1]].tolist() == [1, 0]
    with pytest.raises(ImageError, match="Rescale Slope is 0"):
        decode(dicom(RescaleSlope=0, RescaleIntercept=0))


def lut(first: int, entries: list[int], bits: int, *, packed: bool = False) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW" if packed else "US", np.array(entries, "<u2").tobytes() if packed else entries)
    return Sequence([item])


@pytest.mark.parametrize("packed", [False, True], ids=["numbers", "bytes"])
def test_a_voi_lut_wins_over_a_window_and_keeps_its_end_values(packed):
    voi = lut(100, [0, 10, 1023], 10, packed=packed)
    got = shares(decode(dicom(VOILUTSequence=voi, WindowCenter=1000, WindowWidth=400)))
    np.testing.assert_allclose(got[[0, 99, 100, 101, 102, 103, 4095]], [0, 0, 0, 10 / 1023, 1, 1, 1], atol=1e-5)


def test_a_modality_lut_replaces_rescale():
    modality = lut(0, [0, 5, 15], 4)
    got = shares(decode(dicom(ModalityLUTSequence=modality, RescaleSlope=7)))
    np.testing.assert_allclose(got[:4], [0, 5 / 15, 1, 1], atol=1e-5)


def test_an_empty_lut_item_counts_as_none():
    np.testing.assert_array_equal(decode(dicom(VOILUTSequence=Sequence([Dataset()]))), decode(dicom()))


def test_monochrome1_is_inverted_after_the_window():
    window = {"WindowCenter": 1000, "WindowWidth": 400}
    got = decode(dicom(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **window))
    np.testing.assert_array_equal(got, 65535 - decode(dicom(**window)))


def test_padding_is_black_whatever_the_polarity():
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        got = decode(dicom(PhotometricInterpretation=kind, PixelPaddingValue=1, PixelPaddingRangeLimit=3)).ravel()
        assert got[[1, 2, 3]].tolist() == [0, 0, 0]
        assert (got[[4, 5]] > 0).all()
    signed = np.array([[-2000, 0, 5]], np.int16)
    assert decode(dicom(signed, BitsStored=16, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-2000)).flat[0] == 0


def test_bits_above_bits_stored_are_ignored():
    np.testing.assert_array_equal(decode(dicom(RAMP | 0xF000)), decode(dicom()))


def test_pixels_in_the_upper_bits_are_refused():
    with pytest.raises(ImageError, match="High Bit 15"):
        decode(dicom(HighBit=15))


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_by_pixel_and_by_plane(planar):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stored = pixels if planar == 0 else pixels.transpose(2, 0, 1)
    elements = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": planar,
        "Rows": 4,
        "Columns": 6,
    }
    got = decode(dicom(np.ascontiguousarray(stored), **elements))
    np.testing.assert_array_equal(got, pixels)


def test_full_range_ybr_becomes_rgb():
    grey = np.full((4, 4, 3), 128, np.uint8)
    grey[..., 0] = 77
    elements = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 0}
    np.testing.assert_array_equal(decode(dicom(grey, **elements)), np.full((4, 4, 3), 77))


def test_a_palette_becomes_rgb():
    descriptor = [3, 0, 16]
    reds, greens, blues = ([0x0000, 0x8000, 0xFF00], [0xFF00, 0, 0], [0, 0, 0x0100])
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in (("Red", reds), ("Green", greens), ("Blue", blues)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = descriptor
        elements[f"{name}PaletteColorLookupTableData"] = np.array(entries, "<u2").tobytes()
    got = decode(dicom(np.array([[0, 1, 2]], np.uint8), **elements))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, [[[0, 255, 0], [128, 0, 0], [255, 0, 1]]])


def test_several_frames_need_one_to_be_stated():
    frames = np.stack([RAMP, RAMP // 2, RAMP // 4])
    data = dicom(frames, NumberOfFrames=3)
    with pytest.raises(ImageError, match="holds 3 frames"):
        decode(data)
    np.testing.assert_array_equal(decode(data, frame=1), decode(dicom(RAMP // 2)))
    with pytest.raises(ImageError, match="no frame 3"):
        decode(data, frame=3)


def test_windows_of_functional_groups_are_used_frame_by_frame():
    def group(center: int) -> Dataset:
        window, item = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 100
        item.FrameVOILUTSequence = Sequence([window])
        return item

    rescale, shared = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, -1000
    shared.PixelValueTransformationSequence = Sequence([rescale])
    data = dicom(
        np.stack([RAMP, RAMP]),
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=Sequence([group(0), group(500)]),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    np.testing.assert_array_equal(decode(data, frame=0), decode(dicom(WindowCenter=1000, WindowWidth=100)))
    np.testing.assert_array_equal(decode(data, frame=1), decode(dicom(WindowCenter=1500, WindowWidth=100)))
