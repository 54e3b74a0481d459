"""Open a `.efm` file: a name, an identity, and windows on its members.

Not an unpacker: members stay in the file, which is mapped into memory once. What must hold first is in `check.py`.
"""

from __future__ import annotations

import mmap
import os
import stat
from functools import partial
from pathlib import Path
from types import TracebackType

from ..errors import BundleError
from .check import Checked, check


class Bundle:
    """An open bundle, every byte checked. Made by `open_bundle`; a context manager; safe to read from many threads.

    Attributes:
        path: the file.
        id: SHA-256 of the manifest, 64 hexadecimal digits.
        manifest: what is inside.
        preprocess: how pixels become the model's input.
    """

    def __init__(self, path: Path, checked: Checked, mapped: mmap.mmap) -> None:
        self.path, self.id, self.manifest, self.preprocess, self._places = path, *checked
        self._map: mmap.mmap | None = mapped

    def names(self) -> tuple[str, ...]:
        """Names of all members, in the order of the file: `manifest.json` first, evidence and signatures last."""
        return tuple(self._places)

    def view(self, name: str) -> memoryview:
        """The bytes of a member, unsigned 8-bit `[size]`, as a window on the mapped file, aligned to 64; nothing is copied.

        The window can be written to, because some engines insist on that: writing makes a private copy of the page and leaves
        the file alone. A view stays valid after `close`.

        Raises:
            BundleError: no such member, or the bundle is closed.
        """
        if name not in self._places:
            raise BundleError(f"{self.path} has no member {name!a}", expected=f"one of {', '.join(self._places)}")
        if self._map is None:
            raise BundleError(f"{self.path} is closed", do="open it again")
        _, start, stop = self._places[name]
        return memoryview(self._map)[start:stop]

    def forget(self, name: str) -> None:
        """Let the pages of a member go until they are used again, so that they do not count as this process's memory.

        For an engine that has copied what it needs. Views stay valid; but what was written to them is lost.
        """
        _, start, stop = self._places[name]
        if self._map is not None:
            _forget(self._map, start, stop)

    def close(self) -> None:
        """Give the map back; while views are in use, the last of them does."""
        mapped, self._map = self._map, None
        if mapped is not None:
            _close(mapped)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_bundle(path: str | Path) -> Bundle:
    """Map the file and check all of it (`check.py`), with as many threads as the process may use, before anything is trusted.

    Raises:
        BundleError: no such file, not a bundle, damaged anywhere, unsafe, or of a newer format.
    """
    path = Path(path)
    mapped = _map(path)
    try:
        with memoryview(mapped) as view:
            checked = check(view, partial(_forget, mapped))
    except BundleError as error:
        _close(mapped)
        do = error.do or "get the file again from where it was made"
        raise BundleError(f"{path}: {error.found}", expected=error.expected, do=do) from error
    return Bundle(path, checked, mapped)


def _forget(mapped: mmap.mmap, start: int, stop: int) -> None:
    """Let the pages between go after reading them once: only what is used later counts as this process's memory."""
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _map(path: Path) -> mmap.mmap:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BundleError(f"{path} is a folder", expected="a .efm file", do="name the file in it")
        if not stat.S_ISREG(mode):
            raise BundleError(f"{path} is a device or a pipe", expected="a .efm file", do="save it as a file first")
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise BundleError(f"{path} is empty", expected="a .efm file", do="get the file again from where it was made")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError as error:
        raise BundleError(f"{path} does not exist", expected="a .efm file", do="check the path") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{str(path)!a} cannot be opened ({error})", do="check the path and its permissions") from error


def _close(mapped: mmap.mmap) -> None:
    try:
        mapped.close()
    except BufferError:  # a view is still in use; it keeps the map alive and takes it along
        return
