"""The strict JSON parser in C++: what RFC 8259 allows is read as Python reads it, everything else is refused."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD = [
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"0.5", b"1e5", b"1E+5",
    b"1e-5", b"-0.0", b"5e-324", b"1.7976931348623157e308", b'""', b'"a"', b'"\\u0000"', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
    b'"\\ud83d\\ude00"', b'"\\u00E9\\uD7FF\\uE000"', '"größer 😀 \x7f\u2028"'.encode(), b"[]", b"{}", b" [ 1 , 2 ] ",
    b'\t{"a"\n:\r1}\n', b'{"":0}', b'{"a":{"a":1},"b":[{"a":1}]}', b"[" * 64 + b"]" * 64,
]  # fmt: skip
BAD = [
    b"", b" ", b"nul", b"nulll", b"True", b"NaN", b"Infinity", b"-", b"-a", b"+1", b"01", b"-01", b"1.", b".5", b"1.e5", b"1e",
    b"1e+", b"0x1", b"1 2", b"1,", b"1e400", b"-1e400", b"1e-400", b"'a'", b'"', b'"a', b'"\\', b'"\\"', b'"\\x"', b'"\\u"',
    b'"\\u12"', b'"\\u12g4"', b'"\\u+123"', b'"\\ud800"', b'"\\ud800x"', b'"\\ud800\\n"', b'"\\ud800\\ud800"', b'"\\udc00"',
    b'"\n"', b'"\x1f"', b'"\x00"', b'"\x80"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xc3"', b'"\xc3(', b'"\xe0\x80\x80"',
    b'"\xed\xa0\x80"', b'"\xe2\x82"', b'"\xf0\x80\x80\x80"', b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xff"',
    b"\xef\xbb\xbf1", b"[", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"]", b"{", b"{}}", b'{"a"', b'{"a":', b'{"a":1',
    b'{"a":1,', b'{"a":1,}', b'{"a" 1}', b"{a:1}", b"{1:1}", b'{"a":1 "b":2}', b'{"a":1,"a":1}', b'{"a":1,"b":2,"a":3}',
    b'{"a":1,"\\u0061":2}', b'[{"x":{"":0,"":0}}]', b"[" * 65 + b"]" * 65, b'{"a":' * 65 + b"1" + b"}" * 65, b"[" * 1_000_000,
    b"1\x00", b"/**/1", b"1//", b"\x0c1", b"[1]x", b'"a"b',
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD, ids=repr)
def test_what_the_standard_allows_is_read_as_python_reads_it(probe, text):
    assert json.loads(probe.json(text)) == json.loads(text)


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:30]))
def test_everything_else_is_refused_with_its_place(probe, text):
    with pytest.raises(ValueError, match=r" at byte \d+$"):
        probe.json(text)


def test_a_text_cut_anywhere_is_refused(probe):
    text = '{"a":[1,-2.5e+3,true,null,"ö\\u00e9\\ud83d\\ude00"],"b":{"c":"d"}}'.encode()
    probe.json(text)
    for length in range(len(text)):
        with pytest.raises(ValueError):
            probe.json(text[:length])


def test_an_integer_beyond_64_bits_becomes_a_double(probe):
    assert probe.json(b"9223372036854775808") == "9.223372036854776e18"


def test_many_keys_take_no_quadratic_time(probe):
    text = json.dumps({f"key {i}": 0 for i in range(40_000)}).encode()
    assert len(json.loads(probe.json(text))) == 40_000


def test_a_document_has_at_most_a_million_values(probe):
    probe.json(b"[" + b"0," * 999_998 + b"0]")
    with pytest.raises(ValueError, match=r"more than 1000000 values at byte \d+$"):
        probe.json(b"[" + b"0," * 999_999 + b"0]")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_any_value_is_read_as_it_was_written(probe, value):
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        assert json.loads(probe.json(text.encode())) == value


@settings(max_examples=300, deadline=None)
@given(values)
def test_canonical_is_what_the_writer_of_bundles_writes(probe, value):
    text = msgspec.json.encode(value, order="sorted")
    assert probe.canonical(text)
    spaced = json.dumps(value, ensure_ascii=False, separators=(",", " :")).encode()
    assert probe.canonical(spaced) == (spaced == text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet='[]{},:"\\u0123456789eE+-. truefalsn\n', max_size=40).map(str.encode))
def test_any_bytes_that_are_read_are_read_as_python_reads_them(probe, data):
    try:
        found = json.loads(probe.json(data))
    except ValueError:
        return  # stricter than Python, or right to refuse: the lists above say which
    msgspec.json.decode(data)  # does not raise
    assert found == json.loads(data, parse_int=lambda digits: int(digits) if abs(int(digits)) < 2**63 else float(digits))


NOT_CANONICAL = [
    b" 1", b"1 ", b"[1, 2]", b'{"a": 1}', b'{"b":1,"a":2}', b"-0", b"1e5", b"1.50", b"100000.00", b"1E16", b"1e+16", b"1.0e16",
    b"10e15", b"0.00001e0", b"1e-5", b"0.000001", b"1e15", b"10000000000000000.0", b"0.1000000000000000055", b'"\\/"',
    b'"\\u0041"', b'"\\u000a"', b'"\\u001F"', b'"\\u00e9"', b'{"\\u0062":1,"c":2}', b'[{"z":0,"y":0}]', b'{"b":0,"\\u0061":0}',
    b"[1]\n",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_CANONICAL, ids=repr)
def test_other_ways_to_write_the_same_are_not_canonical(probe, text):
    assert not probe.canonical(text)


@settings(max_examples=500, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_written_as_in_bundles(probe, value):
    assert probe.json(repr(value).encode()) == msgspec.json.encode(value).decode()


def test_floats_about_the_change_of_notation_are_written_as_in_bundles(probe):
    for digits in ("1", "15", "123456789", "12345678901234567", "9007199254740993"):
        for exponent in range(-30, 30):
            value = float(f"{digits}e{exponent}")
            assert probe.json(repr(value).encode()) == msgspec.json.encode(value).decode(), (digits, exponent)
