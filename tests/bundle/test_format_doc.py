"""`docs/efm-format.md` is an interface: its dump is the fixture's, and its own small reader reads and refuses as ours does."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from edgefm.bundle import layout, names
from edgefm.bundle.check import CHUNK, LARGEST_JSON

from .make_format1 import ENTRIES, FIXTURE, IDENTITY

Reader = Callable[[bytes], tuple[str, dict[str, bytes]]]


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "efm-format.md").read_text(encoding="utf-8")


@pytest.fixture
def read(page: str) -> Reader:
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict[str, Reader] = {}
    exec(compile(code, "docs/efm-format.md", "exec"), scope)
    return scope["read_bundle"]


def test_the_dump_on_the_page_is_the_fixture(page: str) -> None:
    data = FIXTURE.read_bytes()
    assert f"{len(data):,} bytes" in page
    lines = re.findall(r"^    ([0-9a-f]{8})  ((?:[0-9a-f]{2} )+) *(\S.*)$", page, re.MULTILINE)
    assert len(lines) > 30
    for at, digits, text in lines:
        shown = bytes.fromhex(digits)
        assert data[int(at, 16) :].startswith(shown), at
        assert text == "|" + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in shown) + "|", at


def test_the_reader_on_the_page_reads_the_fixture(read: Reader) -> None:
    identity, members = read(FIXTURE.read_bytes())
    assert identity == IDENTITY
    assert {name: members[name] for name in ENTRIES} == ENTRIES
    assert members["evidence/report.json"] == b"{}"


def test_the_reader_on_the_page_refuses_every_flipped_byte_and_every_cut(read: Reader) -> None:
    whole = FIXTURE.read_bytes()
    for at in range(len(whole)):
        with pytest.raises((ValueError, KeyError)):
            read(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises((ValueError, KeyError)):
            read(whole[:at])


def test_the_numbers_on_the_page_are_those_of_the_code(page: str) -> None:
    assert layout.ENDING == 207
    assert sha256(b"").hexdigest().startswith("e3b0c442")
    for number in (layout.MOST_BYTES, layout.MOST_MEMBERS, LARGEST_JSON, CHUNK, names.LONGEST):
        assert f"{number:,}" in page
    assert "`[A-Za-z0-9_]([A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?`" in page
