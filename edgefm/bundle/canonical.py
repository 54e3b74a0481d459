"""The one way a struct is written as JSON: keys sorted, no spaces, every field that the writer knows.

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


def decode(data: bytes, kind: type[T], name: str, *, complete: bool = False) -> T:
    """Read the struct from its canonical bytes; `name` is for messages.

    Canonical is judged on the JSON, not on the struct: a field that did not exist when the file was written takes its default,
    unless `complete` says that all fields must be there.

    Raises:
        BundleError: not JSON, not this struct, or not canonical.
    """
    try:
        struct = msgspec.json.decode(data, type=kind)
        canonical = msgspec.json.encode(struct if complete else msgspec.json.decode(data), order="sorted")
    except msgspec.ValidationError as error:
        raise BundleError(
            f"{name} does not hold a {kind.__name__} as this EdgeFM knows it ({error})",
            do="get the file again, or upgrade EdgeFM here if the bundle was made by a newer one",
        ) from error
    except (msgspec.MsgspecError, RecursionError, OverflowError, UnicodeError) as error:
        raise BundleError(f"{name} cannot be read ({error})", expected="canonical JSON") from error
    if canonical != data:
        rule = "sorted keys, each once, no spaces, shortest numbers" + ", every field" * complete
        raise BundleError(f"{name} is not canonical JSON", expected=rule)
    return struct
