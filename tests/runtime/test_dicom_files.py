"""DICOM files that show nothing, that are damaged or lack a decoder, and every real file there is. The rules: test_dicom.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="needs the extra [dicom]")

from pydicom.encaps import encapsulate  # noqa: E402

from edgefm.errors import EdgeFMError, ImageError, MissingExtra  # noqa: E402
from edgefm.runtime.decode import decode  # noqa: E402

from .test_dicom import BIG, EXPLICIT, IMPLICIT, RAMP, dicom  # noqa: E402

RTSTRUCT, SR = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.mark.parametrize(("kind", "name"), [(RTSTRUCT, "RT Structure Set Storage"), (SR, "Comprehensive SR Storage")])
def test_objects_without_an_image_are_refused_by_name(kind, name):
    with pytest.raises(ImageError, match=f"DICOM without an image .{name}"):
        decode(dicom(None, kind=kind))


def test_what_has_more_bits_than_can_be_shown_is_refused():
    with pytest.raises(ImageError, match="32 bits per sample; expected at most 16 for grey"):
        decode(dicom(np.zeros((4, 4), np.uint32)))
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    with pytest.raises(ImageError, match="16 bits per sample; expected at most 8 for colour"):
        decode(dicom(np.zeros((4, 4, 3), np.uint16), **colour))
    with pytest.raises(ImageError, match="floating-point"):
        decode(dicom(None, FloatPixelData=b"\0\0\0\0"))


def test_missing_elements_and_a_bomb_are_named():
    with pytest.raises(ImageError, match="DICOM without Rows"):
        decode(dicom(Rows=None))
    with pytest.raises(ImageError, match="65535 x 65535 pixels"):
        decode(dicom(Rows=65535, Columns=65535))


def test_a_video_is_refused_by_its_name():
    with pytest.raises(ImageError, match="compressed as MPEG2"):
        decode(dicom(syntax="1.2.840.10008.1.2.4.100", data=encapsulate([b"\0" * 10])))


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_file_cut_anywhere_is_refused_or_still_whole():
    data = dicom(RAMP[:8, :8].copy())
    whole = decode(data)
    for length in range(len(data)):
        try:
            got = decode(data[:length])
        except ImageError:
            continue
        np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("bare", [IMPLICIT, EXPLICIT, BIG])
def test_a_data_set_without_preamble_and_header_is_recognised(bare, tmp_path):
    data = dicom(syntax=bare)
    start = data.index(b"\0\x08\0\x16" if bare == BIG else b"\x08\0\x16\0")
    np.testing.assert_array_equal(decode(data[start:]), decode(data))


def test_text_called_dcm_is_no_dicom_image(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_text("this is text and no DICOM file at all, whatever its name may say about it")
    with pytest.raises(ImageError, match=r"a\.dcm is no DICOM image"):
        decode(path)


@pytest.mark.parametrize(
    ("blocked", "syntax", "package"),
    [("pydicom", EXPLICIT, "pydicom"), ("imagecodecs", "1.2.840.10008.1.2.4.70", "imagecodecs")]
    + [("jpeg_ls", "1.2.840.10008.1.2.4.80", "pyjpegls"), ("pylibjpeg", "1.2.840.10008.1.2.4.90", "pylibjpeg-openjpeg")],
)
def test_a_missing_decoder_says_what_to_install(tmp_path: Path, blocked, syntax, package):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(syntax=syntax, data=None if syntax == EXPLICIT else encapsulate([b"\xff\xd8" + b"\0" * 8])))
    code = (
        f"import sys; sys.modules[{blocked!r}] = None\n"
        "from edgefm.runtime.decode import decode\n"
        "from edgefm.errors import MissingExtra\n"
        "try: decode(sys.argv[1])\n"
        "except MissingExtra as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert package in out
    assert "edgefm[dicom]" in out
    assert issubclass(MissingExtra, EdgeFMError)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_real_file_decodes_or_says_why_not(real_data: Path):
    files = [path for path in sorted((real_data / "dicom").rglob("*")) if path.is_file()]
    assert len(files) > 150
    shown, refused = 0, []
    for path in files:
        try:
            pixels = decode(path, frame=None)
        except ImageError as error:
            refused.append((path.name, str(error)))
        else:
            shown += 1
            assert pixels.dtype in (np.uint8, np.uint16)
            assert pixels.ndim == (3 if pixels.dtype == np.uint8 else 2)
    assert shown >= 107
    assert all(name in line for name, line in refused)
    damaged = [line for _, line in refused if "damaged" in line]
    assert len(damaged) <= 2, damaged  # MR_truncated and JPEG2000-embedded-sequence-delimiter


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lossless_compression_changes_no_pixel(real_data: Path):
    folder = real_data / "dicom" / "pydicom"
    plain = decode(folder / "MR_small.dcm")
    for name in (
        "MR_small_RLE",
        "MR_small_jp2klossless",
        "MR_small_jpeg_ls_lossless",
        "MR_small_bigendian",
        "MR_small_implicit",
    ):
        np.testing.assert_array_equal(decode(folder / f"{name}.dcm"), plain)
    colour = decode(folder / "SC_rgb_rle.dcm")
    np.testing.assert_array_equal(decode(folder / "SC_rgb_jpeg_gdcm.dcm"), colour)
    for name in ("SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_dcmtk_+eb+cr", "SC_rgb_jls_lossy_line", "SC_ybr_full_422_uncompressed"):
        assert np.abs(decode(folder / f"{name}.dcm").astype(int) - colour).mean() < 3, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_kinds_of_jpeg_of_one_image_look_alike(real_data: Path):
    folder = real_data / "dicom" / "dwv"
    lossless = decode(folder / "nema-nm1_jpll.dcm").astype(int)  # signed, 16 bits
    np.testing.assert_array_equal(decode(folder / "nema-nm1_j2kr.dcm"), lossless)
    twelve = decode(folder / "nema-nm1_jply.dcm").astype(int)  # unsigned, 12 bits
    assert np.abs((lossless - 32768) - twelve / 16).max() < 64  # of 65535; the image reaches 278
