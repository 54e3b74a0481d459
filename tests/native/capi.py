"""The C interface through ctypes: its structs, and calls that raise.

Not a binding for users: they have `edgefm.Session`.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint8, c_void_p, sizeof
from pathlib import Path
from typing import Any

import numpy as np

OK, ARGUMENT, FILE, BUNDLE, NEWER, REFUSED, VARIANT, IMAGE, ANSWER, GOLDEN = range(10)


class Sized(ctypes.Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(sizeof(type(self)), **fields)


class Error(Sized):
    _fields_ = [("struct_size", c_size_t), ("status", c_int32), ("message", c_char * 500)]


class Options(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        *((name, c_int32) for name in ("threads", "images", "allow_refused")),
        ("variant", c_char_p),
    ]


class Description(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        *((name, c_char_p) for name in ("id", "name", "variant", "isa", "refused")),
        ("task", c_int32),
        ("labels_count", c_int32),
        ("labels", POINTER(c_char_p)),
        ("thresholds", POINTER(c_double)),
        ("temperature", c_double),
        *((name, c_int32) for name in ("embedding_size", "heat_side", "channels", "size")),
        ("window_low", c_double),
        ("window_high", c_double),
    ]


class Image(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("pixels", c_void_p),
        *((name, c_int64) for name in ("width", "height", "stride")),
        ("channels", c_int32),
        ("bits", c_int32),
    ]


class Outputs(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("logits", POINTER(c_float)),
        ("probabilities", POINTER(c_float)),
        ("decisions", POINTER(c_uint8)),
        ("embedding", POINTER(c_float)),
        ("heat", POINTER(c_float)),
    ]


class Failed(Exception):
    """A call that returned an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Library:
    """libedgefm.so. Every call checks that status and message belong together."""

    def __init__(self, path: Path) -> None:
        self.functions = ctypes.CDLL(str(path))
        self.functions.edgefm_version.restype = c_char_p
        self.functions.edgefm_close.restype = None

    def call(self, name: str, *arguments: Any) -> None:
        error = Error()
        status = getattr(self.functions, f"edgefm_{name}")(*arguments, byref(error))
        assert status == error.status
        message = error.message.decode()
        assert bool(message) == bool(status)
        if status:
            raise Failed(status, message)

    def open(self, source: Path | bytes, *, offset: int = 0, **options: Any) -> Session:
        """Open a path, or bytes that begin `offset` behind a multiple of 64."""
        handle, held = c_void_p(1), Options(**options)
        try:
            if isinstance(source, Path):
                self.call("open", str(source).encode(), byref(held), byref(handle))
                return Session(self, handle, None)
            room = np.empty(len(source) + 128, np.uint8)
            start = -room.ctypes.data % 64 + offset
            room[start : start + len(source)] = np.frombuffer(source, np.uint8)
            self.call("open_memory", c_void_p(room.ctypes.data + start), c_size_t(len(source)), byref(held), byref(handle))
            return Session(self, handle, room)
        except Failed:
            assert handle.value is None, "a failed open gives no session"
            raise


class Session:
    """An open session, closed when this object goes."""

    def __init__(self, library: Library, handle: c_void_p, room: np.ndarray | None) -> None:
        self.library, self.handle, self._room = library, handle, room
        self.about = Description()
        library.call("describe", handle, byref(self.about))

    def __del__(self) -> None:
        self.library.functions.edgefm_close(self.handle)

    def predict(self, *pictures: np.ndarray, wanted: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
        """Outputs by name, rows of one picture each: all that the model has, or the `wanted` ones."""
        about, count = self.about, len(pictures)
        shapes = {"embedding": (about.embedding_size,)}
        if about.labels_count:
            shapes |= dict.fromkeys(("logits", "probabilities", "decisions"), (about.labels_count,))
        if about.heat_side:
            shapes |= {"heat": (about.heat_side, about.heat_side)}
        names = tuple(shapes) if wanted is None else wanted
        kinds = {"decisions": np.uint8}
        made = {name: np.full((count, *shapes.get(name, (1,))), 77, kinds.get(name, np.float32)) for name in names}
        types = dict(Outputs._fields_)
        outputs = Outputs(**{name: made[name].ctypes.data_as(types[name]) for name in names})
        images = (Image * count)(*(image_of(picture) for picture in pictures))
        self.library.call("predict", self.handle, images, c_size_t(count), byref(outputs))
        return made


def image_of(picture: np.ndarray) -> Image:
    """An array of uint8 or uint16, `[H, W]` or `[H, W, C]`, samples of a row side by side, as the interface takes it."""
    channels = picture.shape[2] if picture.ndim == 3 else 1
    return Image(
        pixels=picture.ctypes.data,
        width=picture.shape[1],
        height=picture.shape[0],
        stride=picture.strides[0],
        channels=channels,
        bits=8 * picture.itemsize,
    )
