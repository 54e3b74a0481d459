"""OpenVINO's compiled models, kept in the user's cache folder so that the second start need not compile.

Not a second source of truth: OpenVINO itself believes every byte of what it finds there (a changed byte gave wrong answers
without a word), so a kept model is used only while its SHA-256 is the one written beside it.

    openvino/BUNDLE-ID/KEY/…blob      what OpenVINO wrote
    openvino/BUNDLE-ID/KEY/sha256     the digest of all of it
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from threading import Thread
from types import TracebackType

from ..cache import cache_folder, store
from ..cpu import machine_id

MOST_KEPT = 8
LONGEST_COMPILATION = 3600.0  # seconds; an unfinished folder older than that was left by a process that was killed


class CompiledModels:
    """A folder to give OpenVINO as `CACHE_DIR` while it compiles one model: `with CompiledModels(id, key) as folder`.

    Whether there is a kept one, and whether it is whole, is found out in a thread from the moment this is made.

    It is the kept one if that is whole, else an empty one of this process, which is kept under its name when the block ends
    without an error: so two processes never write one file. None where there is no writable cache.
    """

    def __init__(self, bundle: str, key: str) -> None:
        """`bundle`: its id, "" for one that is not written yet, of which nothing is kept. `key`: names everything else that the
        compiled model depends on, but the machine."""
        self._root = cache_folder("openvino", bundle) if bundle else None
        self._name = f"{key}-{machine_id()}".replace("/", "-")
        self._partial: Path | None = None
        self._whole = False
        self._looking = Thread(target=self._look)
        self._looking.start()

    def _look(self) -> None:
        self._whole = self._root is not None and _whole(self._root / self._name)

    def __enter__(self) -> Path | None:
        self._looking.join()
        if self._root is None:
            return None
        if self._whole:
            return self._root / self._name
        try:
            self._partial = Path(tempfile.mkdtemp(prefix=f"{self._name}.", suffix=".partial", dir=self._root))
        except OSError:
            return None
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._root is None or self._partial is None:
            return
        kept = self._root / self._name
        try:
            digest = _digest(self._partial)
            if kind is None and digest and store(self._partial / "sha256", digest.encode()):
                shutil.rmtree(kept, ignore_errors=True)  # not whole, or another process was faster with the same content
                self._partial.rename(kept)
                _forget(self._root.parent)
        except OSError:
            return
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)


def _whole(folder: Path) -> bool:
    try:
        os.utime(folder)  # used last
        return (folder / "sha256").read_text() == _digest(folder)
    except (OSError, ValueError):
        return False


def _digest(folder: Path) -> str:
    """SHA-256 over OpenVINO's files in the order of their names, or "" if there are none."""
    digest, files = sha256(), sorted(folder.glob("*.blob"))
    for path in files:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest() if files else ""


def _forget(root: Path) -> None:
    """Remove all but the `MOST_KEPT` models that were used last, and what killed processes left."""
    times = {path: path.stat().st_mtime for path in root.glob("*/*")}
    kept = sorted((path for path in times if path.suffix != ".partial"), key=times.__getitem__)
    left = [path for path, last in times.items() if path.suffix == ".partial" and last < time.time() - LONGEST_COMPILATION]
    for path in (*kept[:-MOST_KEPT], *left):
        shutil.rmtree(path, ignore_errors=True)
