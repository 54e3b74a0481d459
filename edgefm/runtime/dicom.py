"""A DICOM file to display pixels (PS3.3 C.11): rescale, window, MONOCHROME1. Not a viewer: overlays are ignored."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from ..errors import MissingExtra


def decode_dicom(file: BinaryIO, name: str, *, frame: int | None = None) -> np.ndarray:
    """The displayed pixels of a DICOM file: uint16 grey `[H, W]` over 0 .. 65535, or uint8 RGB `[H, W, 3]`."""
    raise MissingExtra("pydicom", "dicom", f"{name} is a DICOM file; reading it")
