"""The native library, built once for all tests of this folder, and a probe into the parts that its C interface hides.

Not the Python module `edgefm._native`, which setup.py builds of the same units.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .capi import Library


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Only one process builds at a time: tests run side by side."""
    import fcntl

    (root / "build").mkdir(exist_ok=True)
    with open(root / "build" / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def library(root: Path) -> Path:
    """The folder with libedgefm.so and libedgefm.a, as `make library` builds them, brought up to date."""
    if not sys.platform.startswith("linux") or any(shutil.which(program) is None for program in ("g++", "make")):
        pytest.skip("no g++ and make here, or not Linux")
    folder = root / "build" / "library"
    command = ["make", "-s", "-C", root / "csrc", f"BUILD={folder}", f"-j{os.cpu_count()}"]
    with alone(root):
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return folder


class Probe:
    """The functions of probe.cpp, with Python's types."""

    def __init__(self, path: Path) -> None:
        self._functions = ctypes.CDLL(str(path))
        self._out = ctypes.create_string_buffer(1 << 20)
        self.has_sha_ni = bool(self._functions.probe_has_sha_ni())

    def cgroup_quota(self, root: Path, membership: str) -> float | None:
        self._functions.probe_cgroup_quota.restype = ctypes.c_double
        found = float(self._functions.probe_cgroup_quota(os.fsencode(root), membership.encode()))
        return None if found < 0 else found

    def usable_processors(self) -> int:
        return int(self._functions.probe_usable_processors())

    def sha256(self, data: bytes, *, piece: int = 1 << 62, portable: bool = False) -> str:
        digest = ctypes.create_string_buffer(32)
        self._functions.probe_sha256(data, _size(len(data)), _size(piece), portable, digest)
        return digest.raw.hex()

    def json(self, text: bytes) -> str:
        """The text as parsed and written again; `ValueError` as the parser says it."""
        return self._answer(self._functions.probe_json(text, _size(len(text)), self._out))

    def canonical(self, text: bytes) -> bool:
        """Whether this is canonical JSON; `ValueError` where it is no JSON."""
        self.json(text)
        return self._functions.probe_canonical(text, _size(len(text)), self._out) == 0

    def open(self, path: Path, *, threads: int = 2) -> str:
        """The bundle's id; `ValueError` with the reason why it is refused."""
        return self._answer(self._functions.probe_open(os.fsencode(path), threads, self._out))

    def open_memory(self, data: bytes, *, offset: int = 0, threads: int = 2) -> str:
        """The same of bytes, which begin `offset` bytes behind a multiple of 64."""
        room = ctypes.create_string_buffer(len(data) + 128)
        start = -ctypes.addressof(room) % 64 + offset
        ctypes.memmove(ctypes.addressof(room) + start, data, len(data))
        address = ctypes.c_void_p(ctypes.addressof(room) + start)
        return self._answer(self._functions.probe_open_memory(address, _size(len(data)), threads, self._out))

    def _answer(self, status: int) -> str:
        text = self._out.value.decode()
        if status:
            raise ValueError(text)
        return text


def _size(count: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(count)


@pytest.fixture(scope="session")
def probe(root: Path, library: Path) -> Probe:
    """probe.cpp, linked with the static library."""
    source, target = root / "tests" / "native" / "probe.cpp", library / "probe.so"
    parts = [source, library / "libedgefm.a"]
    with alone(root):
        if not target.exists() or target.stat().st_mtime < max(part.stat().st_mtime for part in parts):
            flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{root / 'csrc'}"]
            flags += os.environ.get("MORE", "").split()  # sanitize.sh's
            subprocess.run(["g++", *flags, *parts, "-pthread", "-o", target], check=True)
    return Probe(target)


@pytest.fixture(scope="session")
def edgefm_c(library: Path) -> Library:
    """The C interface."""
    return Library(library / "libedgefm.so")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each kind of task, both precisions, with a class token."""
    from .bundles import TASKS, write_native  # PyTorch: not for the tests that need none

    folder = tmp_path_factory.mktemp("bundles")
    for kind, task in TASKS.items():
        write_native(folder / f"{kind}.efm", "class token", task)
    return {kind: folder / f"{kind}.efm" for kind in TASKS}
