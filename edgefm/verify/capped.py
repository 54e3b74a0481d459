"""A variant as an older processor would run it: in a process of its own whose engine may use no newer instructions.

Not an emulation: only what an engine's own switches hold back. ONNX Runtime has none.

    parent ──▶ length, tensor ──▶ child's stdin        child's stdout ──▶ length, outputs ──▶ parent
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

from ..bundle import open_bundle
from ..errors import EdgeFMError, InputError
from ..runtime.cpu import cpu_features, openvino_cap, usable_threads
from ..runtime.golden import contradiction
from ..runtime.select import candidates

# the cap in OpenVINO's words, and the feature that a processor has beyond it: without that the cap would change nothing
CAPS = (("SSE41", "avx"), ("AVX2", "avx512f"), ("AVX512_CORE", "avx512_vnni"), ("AVX512_CORE_VNNI", "avx512_bf16"))
NATIVE = {"SSE41": "sse41", "AVX2": "avx2", "AVX512_CORE": "avx512", "AVX512_CORE_VNNI": "avx512_vnni"}  # for EDGEFM_ISA
CAPPED = ("openvino", "native")  # engines with such a switch
CODE = "import sys; sys.path[:] = {path!r}; from edgefm.verify.capped import serve; serve({bundle!r}, {name!r})"
Length = struct.Struct("<Q")


def caps() -> list[str]:
    """The caps that hold something of this processor back, from the oldest on."""
    features = cpu_features()
    return [cap for cap, beyond in CAPS if features.get(beyond)]


class Capped:
    """A variant in a child process under a cap: float32 `[1, C, S, S]` to its outputs by name, as an engine answers.

    The process ends with this object, or with this process.

    Attributes:
        wrong: how it contradicts the golden outputs of its bundle, or "".

    Raises:
        InputError: the variant cannot run under this cap; says why.
    """

    def __init__(self, bundle: Path, name: str, cap: str) -> None:
        self._who = f"{name} capped to {cap}"
        cache = TemporaryDirectory(prefix="edgefm-capped-")  # a model compiled without the cap must not be taken up
        self._child = subprocess.Popen(
            [sys.executable, "-c", CODE.format(path=sys.path, bundle=str(bundle), name=name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | openvino_cap(cap) | {"EDGEFM_ISA": NATIVE[cap], "XDG_CACHE_HOME": cache.name},
        )
        self._end = weakref.finalize(self, _stop, self._child, cache)
        first = self._reply()
        if (error := str(first.get("error", ""))) != "":
            raise InputError(error)
        self.wrong = str(first["wrong"])

    def __call__(self, prepared: np.ndarray) -> Mapping[str, np.ndarray]:
        """Raises `InputError`: the process has ended."""
        assert self._child.stdin is not None
        try:
            _send(self._child.stdin, {"prepared": prepared})
        except BrokenPipeError:
            raise InputError(f"{self._who}: its process has ended") from None
        return self._reply()

    def close(self) -> None:
        """End the process."""
        self._end()

    def _reply(self) -> dict[str, np.ndarray]:
        assert self._child.stdout is not None
        found = _receive(self._child.stdout)
        if found is None:
            raise InputError(f"{self._who}: its process has ended")
        return found


def serve(path: str, name: str) -> None:
    """The child: load, tell whether it computes what the bundle says, then answer until stdin ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    with open_bundle(Path(path)) as bundle:
        try:
            found, left_out = candidates(bundle.manifest)
            if name in left_out:
                raise InputError(left_out[name])
            candidate = next(each for each in found if each.name == name)
            engine = candidate.load(bundle, usable_threads())
            wrong = contradiction(engine, bundle, candidate.precision, candidate.name)
        except EdgeFMError as error:
            _send(replies, {"error": np.array(str(error).rstrip("."))})
            return
        _send(replies, {"wrong": np.array(wrong)})
        while (asked := _receive(sys.stdin.buffer)) is not None:
            _send(replies, engine(asked["prepared"]))


def _send(stream: IO[bytes], arrays: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    stream.write(Length.pack(content.tell()) + content.getvalue())
    stream.flush()


def _receive(stream: IO[bytes]) -> dict[str, np.ndarray] | None:
    """None at the end of the stream."""
    head = stream.read(Length.size)
    if len(head) < Length.size:
        return None
    (length,) = Length.unpack(head)
    content = stream.read(length)
    if len(content) < length:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _stop(child: subprocess.Popen[bytes], cache: TemporaryDirectory[str]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    cache.cleanup()
