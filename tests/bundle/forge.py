"""Bundles that a careful attacker would make: every hash, size and place is right, only the content is not what it should be.

Not the writer: nothing is refused here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from edgefm.bundle import open_bundle
from edgefm.bundle.layout import Member, directory, ending, local_header, place
from edgefm.bundle.write import measure
from edgefm.errors import BundleError

from .make_format1 import ENTRIES, MANIFEST, PREPROCESS

MEMBERS: dict[str, bytes] = dict(
    sorted(
        {
            **ENTRIES,
            "labels.json": msgspec.json.encode(MANIFEST.task.labels),
            "preprocess.json": msgspec.json.encode(PREPROCESS, order="sorted"),
        }.items()
    )
)


def manifest_of(members: Mapping[str, bytes] = MEMBERS, **changes: object) -> bytes:
    """The canonical manifest that lists these members, with some fields changed."""
    entries = {name: measure(data) for name, data in members.items()}
    return msgspec.json.encode(msgspec.structs.replace(MANIFEST, **{"entries": entries, **changes}), order="sorted")


def forge(
    manifest: bytes, members: Sequence[tuple[str, bytes]] | None = None, appended: Sequence[tuple[str, bytes]] = ()
) -> bytes:
    """The bytes of an archive of these members in this order, with the right layout and the right comment."""
    files = [("manifest.json", manifest), *(MEMBERS.items() if members is None else members), *appended]
    parts = [Member(name, len(data), zlib.crc32(data)) for name, data in files]
    places = place(parts)
    body, behind = b"", b""
    for part, where, (_, data) in zip(parts, places, files, strict=True):
        piece = local_header(part, where) + data
        if where in places[len(files) - len(appended) :]:
            behind += piece
        body += piece
    made = directory(parts, places)
    return body + made + ending(len(parts), len(made), len(body), sha256(manifest).hexdigest(), sha256(behind).hexdigest())


def refusal(folder: Path, data: bytes) -> str:
    """Write the bytes, open them, and return the one line of the `BundleError` that must come."""
    path = folder / "made.efm"
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    assert line.isprintable()
    return line
