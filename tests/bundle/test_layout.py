"""The bytes between the members, made and read. Lies in them are in test_archive.py and test_damage.py."""

from __future__ import annotations

import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefm.bundle.layout import ALIGNMENT, ENDING, Member, directory, directory_size, ending, local_header, place, read_layout
from edgefm.errors import BundleError

ODD = [b"", b"x", bytes(63), bytes(64), bytes(65), bytes(1000)]


def archive(contents: list[bytes]) -> tuple[bytes, tuple[Member, ...]]:
    """A whole file of these members; the digests in its comment are not looked at by `read_layout`."""
    names = ["manifest.json", *(f"golden/m{number:03}" for number in range(len(contents) - 1))]
    members = tuple(Member(name, len(data), zlib.crc32(data)) for name, data in zip(names, contents, strict=True))
    places = place(members)
    body = b"".join(local_header(member, where) + data for member, where, data in zip(members, places, contents, strict=True))
    made = directory(members, places)
    return body + made + ending(len(members), len(made), len(body), "0" * 64, "1" * 64), members


def test_no_members_and_an_empty_file_are_refused() -> None:
    for data in (b"", b"PK", bytes(ENDING), ending(0, 0, 0, "0" * 64, "0" * 64)):
        with pytest.raises(BundleError):
            read_layout(memoryview(data))


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8))
def test_what_is_made_is_read_back_and_every_member_starts_at_a_multiple_of_64(contents: list[bytes]) -> None:
    data, members = archive(contents)
    found, places = read_layout(memoryview(data))
    assert found == members
    for where, content in zip(places, contents, strict=True):
        assert where.start % ALIGNMENT == 0
        assert data[where.start : where.stop] == content


def test_members_lie_one_after_the_other_with_less_than_one_line_of_padding() -> None:
    _, members = archive(ODD)
    end = 0
    for member, where in zip(members, place(members), strict=True):
        assert where.header == end
        assert where.stop - where.start == member.size
        assert 0 <= where.start - where.header - (30 + len(member.name) + 6) < ALIGNMENT
        end = where.stop


def test_a_stranger_reads_the_same_members() -> None:
    data, members = archive(ODD)
    with zipfile.ZipFile(io.BytesIO(data)) as stranger:
        assert stranger.testzip() is None
        assert [(each.filename, each.file_size, each.CRC) for each in stranger.infolist()] == list(members)
        assert [stranger.read(member.name) for member in members] == ODD


def test_the_sizes_that_are_counted_beforehand_are_those_that_are_made() -> None:
    _, members = archive(ODD)
    assert directory_size(members) == len(directory(members, place(members)))
    assert len(ending(1, 2, 3, "0" * 64, "1" * 64)) == ENDING


def test_one_byte_more_or_less_anywhere_outside_the_members_is_refused() -> None:
    data, members = archive(ODD)
    inside = {at for where in place(members) for at in range(where.start, where.stop)}
    comment = range(len(data) - ENDING + 20, len(data))  # with its length: compared by check.py
    for at in sorted(set(range(len(data))) - inside - set(comment)):
        for changed in (
            data[:at] + data[at + 1 :],
            data[:at] + b"\0" + data[at:],
            data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
        ):
            with pytest.raises(BundleError):
                read_layout(memoryview(changed))
