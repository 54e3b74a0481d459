"""One struct, one text: whatever could be written in two ways is refused or has one way only."""

from __future__ import annotations

import math

import msgspec
import pytest

from edgefm.bundle.canonical import decode, encode
from edgefm.errors import BundleError, InputError


class Inner(msgspec.Struct, frozen=True):
    z: float = 0.0
    a: str = ""


class Outer(msgspec.Struct, frozen=True):
    """Fields out of order, a map, and a field that older files lack."""

    z: Inner
    m: dict[str, int] = {}
    a: float = 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"a Outer cannot be written \(.*\)\. Correct this value"):
        encode(Outer(z=Inner(z=value)))


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be written"):
        encode(Outer(z=Inner(a="\udcff")))


def test_keys_are_sorted_at_every_depth_and_every_field_is_written() -> None:
    data, _ = encode(Outer(z=Inner(), m={"b": 1, "a": 2, "ä": 3, "B": 4}))
    assert data == '{"a":1.0,"m":{"B":4,"a":2,"b":1,"ä":3},"z":{"a":"","z":0.0}}'.encode()


def test_a_whole_number_in_a_float_field_becomes_a_float_as_a_reader_sees_it() -> None:
    data, struct = encode(Outer(z=Inner(z=3), a=2))
    assert data == encode(Outer(z=Inner(z=3.0), a=2.0))[0]
    assert isinstance(struct.a, float)


def test_what_was_written_is_read_and_a_field_that_was_not_yet_there_takes_its_default() -> None:
    outer = Outer(z=Inner(a="x"), m={"k": 1})
    assert decode(encode(outer)[0], Outer, "x.json", complete=True) == outer
    old = b'{"z":{"a":"x"}}'
    assert decode(old, Outer, "x.json") == Outer(z=Inner(a="x"))
    with pytest.raises(BundleError, match=r"x\.json is not canonical JSON; expected .*, every field"):
        decode(old, Outer, "x.json", complete=True)


@pytest.mark.parametrize(
    "data",
    [
        b'{"z":{"a":"x"} }',
        b'{ "z":{"a":"x"}}',
        b'{"z":{"a":"x"}}\n',
        b'{"z":{"z":1.0,"a":"x"}}',
        b'{"z":{"a":"y","a":"x"}}',
        b'{"z":{"a":"\\u0078"}}',
        b'{"z":{"a":"x"},"a":1.0}',
        b'{"z":{"z":1.00}}',
        b'{"z":{"z":1e0}}',
        b'\xef\xbb\xbf{"z":{"a":"x"}}',
    ],
)
def test_another_way_to_write_the_same_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"x\.json (is not canonical JSON|cannot be read)"):
        decode(data, Outer, "x.json")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read|does not hold"),
        (b'{"z":"\xff"}', "cannot be read|does not hold"),
        (b"[]", "does not hold a Outer as this EdgeFM knows it"),
        (b'{"z":{"z":"1"}}', "does not hold a Outer"),
        (b'{"m":{}}', "does not hold a Outer"),
    ],
)
def test_what_is_no_such_struct_is_told_in_one_line(data: bytes, says: str) -> None:
    with pytest.raises(BundleError, match=rf"x\.json ({says})") as caught:
        decode(data, Outer, "x.json")
    assert str(caught.value).isprintable()
