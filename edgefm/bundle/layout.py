"""Every byte of a bundle outside its members, in both directions: made from names, sizes and checksums, or held to that.

Not a ZIP library: it reads only what it would have written itself. `docs/efm-format.md` is this file in words.

    0                                                                                              end of file
    | header | manifest.json | header | member | … | header | evidence | … | directory | end record | comment |
               ^64             each member starts at a multiple of 64
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import BundleError
from ..spec.manifest import FORMAT
from .names import MANIFEST, check_names

ALIGNMENT = 64
MOST_MEMBERS = 0xFFFE
MOST_BYTES = 0xFFFFFFFE
EXTRA_ID = 0x4645
NEVER = (20, 0, 0, 0, 0x0021)  # version 2.0, no flags, stored, 00:00:00, 1 January 1980
MADE_BY = 0x0314  # by version 2.0, on Unix
READABLE = 0o100644 << 16

_HEADER = struct.Struct("<4s5H3I2H")
_EXTRA = struct.Struct("<3H")
_RECORD = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_COMMENT = "EdgeFM bundle format {}\nmanifest sha256 {}\nappended sha256 {}\n"
_HEAD = b"EdgeFM bundle format %d\n" % FORMAT
ENDING = _END.size + len(_COMMENT.format(FORMAT, "0" * 64, "0" * 64))


class Member(NamedTuple):
    """One archive member: its name, its length in bytes, its CRC-32."""

    name: str
    size: int
    crc32: int


class Place(NamedTuple):
    """Where a member's local header and its data begin and its data end, in bytes from the start of the file."""

    header: int
    start: int
    stop: int


def place(members: Sequence[Member]) -> tuple[Place, ...]:
    """The place of each member: one after the other, each header padded so that the data start at a multiple of 64."""
    places, end = [], 0
    for member in members:
        start = -(-(end + _HEADER.size + len(member.name) + _EXTRA.size) // ALIGNMENT) * ALIGNMENT
        places.append(Place(end, start, start + member.size))
        end = start + member.size
    return tuple(places)


def local_header(member: Member, where: Place) -> bytes:
    """The bytes from the end of the member before it to the member's data."""
    extra = where.start - where.header - _HEADER.size - len(member.name)
    fixed = _HEADER.pack(b"PK\3\4", *NEVER, member.crc32, member.size, member.size, len(member.name), extra)
    padded = _EXTRA.pack(EXTRA_ID, extra - 4, FORMAT) + bytes(extra - _EXTRA.size)
    return fixed + member.name.encode("ascii") + padded


def directory(members: Sequence[Member], places: Sequence[Place]) -> bytes:
    """The central directory: one record per member, in the order of the file."""
    return b"".join(
        _RECORD.pack(
            *(b"PK\1\2", MADE_BY, *NEVER, member.crc32, member.size, member.size),
            *(len(member.name), 0, 0, 0, 0, READABLE, where.header),
        )
        + member.name.encode("ascii")
        for member, where in zip(members, places, strict=True)
    )


def directory_size(members: Sequence[Member]) -> int:
    """Bytes of the central directory."""
    return sum(_RECORD.size + len(member.name) for member in members)


def ending(count: int, size: int, offset: int, manifest_sha256: str, appended_sha256: str) -> bytes:
    """The end record for a directory of `count` records, `size` bytes at `offset`, and the archive comment."""
    comment = _COMMENT.format(FORMAT, manifest_sha256, appended_sha256).encode("ascii")
    return _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, len(comment)) + comment


def read_layout(view: memoryview) -> tuple[tuple[Member, ...], tuple[Place, ...]]:
    """The members of a bundle, every byte between them compared with what `local_header`, `directory` and `ending` make.

    The digests of the comment and the members' data are not looked at here.

    Raises:
        BundleError: not a bundle, a newer format, cut short, or a byte that differs.
    """
    end = len(view) - ENDING
    if end < 0 or not _is_end(view, end):
        raise _no_bundle(view)
    _, _, _, _, count, size, offset, _ = _END.unpack_from(view, end)
    if offset + size != end:
        if bytes(view[max(end - 20, 0) : max(end - 16, 0)]) == b"PK\6\7":
            raise BundleError("it has a ZIP64 end record", expected="a plain ZIP archive")
        raise BundleError(
            f"its directory of {size} bytes at {offset} does not end at {end}", expected="nothing before, between or behind"
        )
    members = tuple(_read_directory(view[offset:end], count))
    check_names([member.name for member in members])
    places = place(members)
    if places[-1].stop != offset:
        raise BundleError(f"its members end at byte {places[-1].stop}", expected=f"byte {offset}, where the directory begins")
    for member, where in zip(members, places, strict=True):
        _compare(view, where.header, local_header(member, where), f"header of {member.name}")
    made = directory(members, places)
    _compare(view, offset, made, "directory")
    _compare(view, end, ending(count, len(made), offset, "", "")[: _END.size - 2], "end record")
    return members, places


def _is_end(view: memoryview, end: int) -> bool:
    comment = end + _END.size
    return bytes(view[end : end + 4]) == b"PK\5\6" and bytes(view[comment : comment + len(_HEAD)]) == _HEAD


def _read_directory(view: memoryview, count: int) -> list[Member]:
    """What the directory says; the fields that can have only one value are compared later, with a better word for some here."""
    members: list[Member] = []
    at = 0
    while at < len(view):
        if len(view) - at < _RECORD.size or bytes(view[at : at + 4]) != b"PK\1\2":
            raise BundleError(f"record {len(members)} of its directory is broken")
        fields = _RECORD.unpack_from(view, at)
        flags, method, crc32, stored, size, length, extra = (*fields[3:5], *fields[7:12])
        raw = bytes(view[at + _RECORD.size : at + _RECORD.size + length])
        shown = ascii(raw.decode("latin-1"))
        if len(raw) < length or extra or fields[12]:
            kind = "ZIP64 sizes" if size == 0xFFFFFFFF else "extra fields, a comment"
            raise BundleError(f"the directory record of {shown} has {kind} or is cut short", expected="nothing but a name")
        if flags & 1:
            raise BundleError(f"{shown} is encrypted", expected="members stored as they are")
        if method:
            raise BundleError(f"{shown} is compressed (method {method})", expected="members stored as they are")
        if stored != size:
            raise BundleError(f"{shown} takes {stored} bytes for {size}", expected="members stored as they are")
        if not raw.isascii():
            raise BundleError(f"the name {shown} is not ASCII")
        members.append(Member(raw.decode("ascii"), size, crc32))
        at += _RECORD.size + length
    if len(members) != count or not 1 <= count <= MOST_MEMBERS:
        raise BundleError(f"its directory has {len(members)} records, its end record says {count}")
    return members


def _compare(view: memoryview, at: int, expected: bytes, what: str) -> None:
    found = bytes(view[at : at + len(expected)])
    if found != expected:
        i = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        raise BundleError(f"byte {at + i} ({what}) is {found[i]:#04x}", expected=f"{expected[i]:#04x}")


def newer(version: int) -> BundleError:
    """What to say about a bundle of a format that this EdgeFM does not know."""
    return BundleError(
        f"it is a bundle of format {version}",
        expected=f"format {FORMAT}, the newest that this EdgeFM reads",
        do=f"upgrade EdgeFM here to a version that reads format {version}: pip install --upgrade edgefm",
    )


def _no_bundle(view: memoryview) -> BundleError:
    """The most helpful thing to say about a file that does not end as a bundle of this format does."""
    name = _HEADER.size + len(MANIFEST)
    start = bytes(view[: name + _EXTRA.size])
    marked = len(start) == name + _EXTRA.size and start[_HEADER.size : name] == MANIFEST.encode()
    if marked and start.startswith(b"PK\3\4"):
        identity, _, version = _EXTRA.unpack_from(start, name)
        if identity == EXTRA_ID and version > FORMAT:
            return newer(version)
        if identity == EXTRA_ID:
            return BundleError(f"it is cut short, or something stands behind its end ({len(view)} bytes)")
    if start.startswith(b"PK"):
        return BundleError("it is a ZIP archive, but no EdgeFM bundle, or only a part of one")
    return BundleError(f"it is no EdgeFM bundle (it begins with {start[:8]!r})")
