"""A variant as an older processor would run it: in a process of its own whose engine may use no newer instructions.

Not an emulation: only what an engine's own switches hold back. ONNX Runtime has none.

    parent ──▶ head, tensor ──▶ child's stdin        child's stdout ──▶ head, outputs ──▶ parent

A head is its length and JSON, the dtype and shape of each array by name; their bytes follow.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import numpy as np

from ..bundle import open_bundle
from ..errors import EdgeFMError, InputError
from ..runtime.cpu import usable_threads
from ..runtime.golden import contradiction
from ..runtime.instructions import InstructionSet, held_to
from ..runtime.select import candidates

CAPPED = ("openvino", "native")  # engines with a switch for their instructions
CODE = "import sys; sys.path[:] = {path!r}; from edgefm.verify.capped import serve; serve({bundle!r}, {name!r})"
Length = struct.Struct("<Q")
LINES = 3  # of what a process that has ended said last


class Capped:
    """A variant in a child process under a cap: float32 `[1, C, S, S]` to its outputs by name, as an engine answers.

    It loads while this process goes on: `ready` first, then ask. The process ends with this object, or with this process.
    """

    def __init__(self, bundle: Path, name: str, cap: InstructionSet) -> None:
        self._who = f"{name} capped to {cap.openvino}"
        cache = TemporaryDirectory(prefix="edgefm-capped-")  # a model compiled without the cap must not be taken up
        self._said = TemporaryFile()  # noqa: SIM115 - closed by `_stop`
        self._child = subprocess.Popen(
            [sys.executable, "-c", CODE.format(path=sys.path, bundle=str(bundle), name=name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | held_to(cap) | {"XDG_CACHE_HOME": cache.name},
        )
        self._end = weakref.finalize(self, _stop, self._child, cache, self._said)

    def ready(self) -> str:
        """Wait until it has loaded, once. How it contradicts the golden outputs of its bundle, or "".

        Raises:
            InputError: the variant cannot run under this cap; says why.
        """
        first = self._reply()
        if "error" in first:
            raise InputError(first["error"].tobytes().decode())
        return first["wrong"].tobytes().decode()

    def __call__(self, prepared: np.ndarray) -> Mapping[str, np.ndarray]:
        """Raises `InputError`: the process has ended."""
        assert self._child.stdin is not None
        try:
            _send(self._child.stdin, {"prepared": prepared})
        except BrokenPipeError:
            raise self._ended() from None
        return self._reply()

    def close(self) -> None:
        """End the process."""
        self._end()

    def _reply(self) -> dict[str, np.ndarray]:
        assert self._child.stdout is not None
        found = _receive(self._child.stdout)
        if found is None:
            raise self._ended()
        return found

    def _ended(self) -> InputError:
        """With how it ended, and what it said last. Reasons stand in reports: where a traceback names files, they do not."""
        try:
            code = self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return InputError(f"{self._who}: its process does not speak any more")
        self._said.seek(0)
        said = [line.strip() for line in self._said.read().decode(errors="replace").splitlines()]
        last = [line[:200] for line in said if line and not line.startswith('File "')][-LINES:]
        how = f"with {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        return InputError(f"{self._who}: its process has ended {how}" + "".join(f"; {line}" for line in last))


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
            _send(replies, {"error": _text(str(error).rstrip("."))})
            return
        _send(replies, {"wrong": _text(wrong)})
        while (asked := _receive(sys.stdin.buffer)) is not None:
            _send(replies, engine(asked["prepared"]))


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _send(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    head = json.dumps({name: (values.dtype.str, values.shape) for name, values in arrays.items()}).encode()
    stream.write(b"".join([Length.pack(len(head)), head, *(values.tobytes() for values in arrays.values())]))
    stream.flush()


def _receive(stream: IO[bytes]) -> dict[str, np.ndarray] | None:
    """None at the end of the stream."""
    length = stream.read(Length.size)
    if len(length) < Length.size:
        return None
    head = stream.read(*Length.unpack(length))
    if len(head) < Length.unpack(length)[0]:
        return None
    found = {}
    for name, (dtype, shape) in json.loads(head).items():
        values = np.empty(shape, dtype)
        content = stream.read(values.nbytes)
        if len(content) < values.nbytes:
            return None
        values[...] = np.frombuffer(content, dtype).reshape(shape)
        found[name] = values
    return found


def _stop(child: subprocess.Popen[bytes], cache: TemporaryDirectory[str], said: IO[bytes]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, said):
        if stream is not None:
            with suppress(BrokenPipeError):  # what it was not told any more
                stream.close()
    cache.cleanup()
