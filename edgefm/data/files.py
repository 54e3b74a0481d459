"""Image files on disk as a store of pixels. Not the search for them (`table.py`, `folders.py`)."""

from __future__ import annotations

import hashlib
import stat
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..runtime.decode import decode


@dataclass(frozen=True)
class Files:
    """Image files by position. `frame` is the frame of multi-frame files, from 0, or None."""

    paths: tuple[Path, ...]
    frame: int | None = None

    def pixels(self, key: int) -> np.ndarray:
        """The stored pixels of file `key`; see `runtime.decode.decode`."""
        return decode(self.paths[key], frame=self.frame)

    def digest(self, key: int) -> bytes:
        """SHA-256 of the file's bytes."""
        path = self.paths[key]
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe waits for whoever writes into it
                raise ImageError(f"{path} is not a regular file", expected="an image file")
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except (OSError, ValueError) as error:
            raise ImageError(
                f"{path} cannot be read ({getattr(error, 'strerror', None) or error})", do="check the path"
            ) from error

    def copies(self) -> dict[int, int]:
        """Keys of files identical to an earlier one; only files of equal length are read, missing ones are passed over."""
        lengths: dict[int, list[int]] = defaultdict(list)
        for key, path in enumerate(self.paths):
            with suppress(OSError, ValueError):
                lengths[path.stat().st_size].append(key)
        suspects = sorted(key for keys in lengths.values() if len(keys) > 1 for key in keys)
        first: dict[bytes, int] = {}
        found: dict[int, int] = {}
        with ThreadPoolExecutor() as pool:
            for key, digest in zip(suspects, pool.map(self._digest_or_none, suspects)):
                if digest is not None and first.setdefault(digest, key) != key:
                    found[key] = first[digest]
        return found

    def _digest_or_none(self, key: int) -> bytes | None:
        with suppress(ImageError):
            return self.digest(key)
        return None
