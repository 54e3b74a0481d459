"""The one way a struct is written as JSON: keys sorted, no spaces, every field present.

Not a general JSON writer: what reads back differently is refused.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..errors import BundleError, InputError

T = TypeVar("T", bound=msgspec.Struct)


def encode(struct: T) -> tuple[bytes, T]:
    """The canonical bytes, and the struct as a reader will see it (a whole number in a float field has become a float).

    Raises:
        InputError: a value that JSON cannot hold (a NaN) or that is out of the range its field allows.
    """
    try:
        read_back = msgspec.json.decode(msgspec.json.encode(struct), type=type(struct))
    except (msgspec.MsgspecError, RecursionError, OverflowError, UnicodeError) as error:
        raise InputError(f"a {type(struct).__name__} cannot be written ({error})", do="correct this value") from error
    return msgspec.json.encode(read_back, order="sorted"), read_back


def decode(data: bytes, kind: type[T], name: str) -> T:
    """Read the struct from its canonical bytes; `name` is for messages.

    Raises:
        BundleError: not JSON, not this struct, or not the bytes that `encode` would have written.
    """
    try:
        struct = msgspec.json.decode(data, type=kind)
        canonical = msgspec.json.encode(struct, order="sorted")
    except (msgspec.MsgspecError, RecursionError, OverflowError, UnicodeError) as error:
        raise BundleError(f"{name} cannot be read ({error})", expected=f"the canonical JSON of a {kind.__name__}") from error
    if canonical != data:
        raise BundleError(
            f"{name} is not canonical JSON", expected="sorted keys, each once, no spaces, shortest numbers, every field present"
        )
    return struct
