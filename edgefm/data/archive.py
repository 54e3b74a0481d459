"""Arrays of images inside an `.npz` as a store of pixels: unpacked once, on first use, into a mapped temporary file.

Not the meaning of the arrays (`medmnist.py`). A set of 224 pixels takes up to 13 GB unpacked, so it is never all in memory.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ImageError


class Member(NamedTuple):
    """An array of images in an archive: `[N, H, W]` or `[N, H, W, C]`, C order, its data at `offset` of the unpacked member."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int


class Archive:
    """Images by position, over all members one after the other. Picklable: another process unpacks for itself."""

    def __init__(self, path: Path, members: tuple[Member, ...]) -> None:
        self.path, self.members = path, members
        self._arrays: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Archive], tuple[Path, tuple[Member, ...]]]:
        return Archive, (self.path, self.members)

    def pixels(self, key: int) -> np.ndarray:
        """A copy of image `key`, uint8 or uint16 `[H, W]` or `[H, W, 3]`. Raises `ImageError` if the archive is damaged."""
        for member in self.members:
            if key < member.shape[0]:
                pixels = np.array(self._array(member)[key])
                return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
            key -= member.shape[0]
        raise IndexError(key)

    def digest(self, key: int) -> bytes:
        """SHA-256 of the image's dtype, shape and pixels."""
        pixels = self.pixels(key)
        return hashlib.sha256(f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes()).digest()

    def copies(self) -> dict[int, int]:
        """None are looked for: archives bring their own splits."""
        return {}

    def _array(self, member: Member) -> np.ndarray:
        with self._lock:
            if member.name not in self._arrays:
                self._arrays[member.name] = self._unpack(member)
            return self._arrays[member.name]

    def _unpack(self, member: Member) -> np.ndarray:
        try:
            with tempfile.TemporaryFile() as out:  # its space is freed with the mapping
                with zipfile.ZipFile(self.path) as archive, archive.open(member.name) as file:
                    shutil.copyfileobj(file, out, 1 << 20)
                out.flush()
                return np.memmap(out, member.dtype, "r", member.offset, member.shape)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise ImageError(f"{self.path} is damaged ({error})", do="download it again") from error
        except OSError as error:
            reason = error.strerror or str(error)
            do = "free some space, or point TMPDIR to a folder with more"
            raise ImageError(f"{self.path} cannot be unpacked in {tempfile.gettempdir()} ({reason})", do=do) from error
