"""Write a `.efm` file: the same bytes for the same content, complete under its name or not there at all.

Not a collector: what belongs into a bundle is the business of `export` and `quantize`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import chain
from pathlib import Path

import msgspec

from ..errors import InputError
from ..partial import partial_file
from ..spec.manifest import FORMAT, Entry, Manifest
from ..spec.preprocess import Preprocess
from .canonical import encode
from .check import CHUNK, check_references
from .layout import MOST_BYTES, MOST_MEMBERS, Member, directory, directory_size, ending, local_header, place
from .names import LABELS, MANIFEST, PREPROCESS, check_names, is_appended
from .read import open_bundle

Source = bytes | memoryview | Path


def write_bundle(
    path: Path, manifest: Manifest, preprocess: Preprocess, entries: Mapping[str, Source], *, force: bool = False
) -> str:
    """Write a bundle through `OUT.partial`, read it back with all checks, rename it.

    Args:
        path: the new file. It is replaced only with `force`, and only by a complete one.
        manifest: what is inside; its `entries` are filled in here. Line breaks and the like in `refused` become spaces, since
            they may be another program's words.
        preprocess: goes into `preprocess.json`; `labels.json` is made of the manifest's task.
        entries: archive name to content. A `Path` is streamed, read twice, and must not change meanwhile.

    Returns:
        The bundle id: SHA-256 of the manifest, 64 hexadecimal digits.

    Raises:
        InputError: a name, reference or value that a bundle cannot hold, an unreadable file, a full disk, an existing `path`.
    """
    if manifest.format != FORMAT:
        raise InputError(f"a manifest of format {manifest.format} cannot be written", expected=f"format {FORMAT}")
    own = {LABELS: msgspec.json.encode(manifest.task.labels), PREPROCESS: encode(preprocess)[0]}
    for name in entries:
        if name in (*own, MANIFEST) or is_appended(name):
            raise InputError(f"{name} cannot be given as an entry", expected="names that the writer does not make itself")
    listed = dict(sorted({**entries, **own}.items()))
    check_names([MANIFEST, *listed])
    measured = {name: measure(source) for name, source in listed.items()}
    refused = None if manifest.refused is None else re.sub(r"[\x00-\x1f\x7f]+", " ", manifest.refused)
    data, manifest = encode(msgspec.structs.replace(manifest, entries=measured, refused=refused))
    check_references(manifest)
    return assemble(path, data, listed, measured, force=force)


def assemble(path: Path, manifest: bytes, sources: Mapping[str, Source], measured: Mapping[str, Entry], *, force: bool) -> str:
    """Write the archive of the manifest and these members, in this order; read it back before it gets its name.

    Args:
        manifest: its canonical bytes.
        sources: archive name to content, what was appended last.
        measured: archive name to size and hashes of that content.

    Returns:
        The bundle id.

    Raises:
        InputError: too large for the format, or it cannot be written.
    """
    contents = {MANIFEST: manifest, **sources}
    members = [Member(MANIFEST, len(manifest), zlib.crc32(manifest))]
    members += [Member(name, measured[name].size, measured[name].crc32) for name in sources]
    places = place(members)
    end = places[-1].stop + directory_size(members)
    if end > MOST_BYTES or len(members) > MOST_MEMBERS:
        raise InputError(
            f"{path} would have {len(members)} members and {end} bytes",
            expected=f"at most {MOST_MEMBERS} and {MOST_BYTES}, as in every ZIP archive without ZIP64",
            do="keep fewer variants, or choose a smaller student",
        )
    with partial_file(path, force=force) as file:
        appended = sha256()
        for member, where in zip(members, places, strict=True):
            for piece in chain([local_header(member, where)], _chunks(contents[member.name])):
                file.write(piece)
                if is_appended(member.name):
                    appended.update(piece)
        made = directory(members, places)
        identity = sha256(manifest).hexdigest()
        file.write(made + ending(len(members), len(made), places[-1].stop, identity, appended.hexdigest()))
        file.flush()
        with open_bundle(file.name) as bundle:
            return bundle.id


def measure(source: Source) -> Entry:
    """Size, CRC-32 and the SHA-256 of every 1 MiB of a content, in one reading."""
    size, crc32, chunks = 0, 0, []
    for chunk in _chunks(source):
        size, crc32 = size + len(chunk), zlib.crc32(chunk, crc32)
        chunks.append(sha256(chunk).hexdigest())
    return Entry(size=size, crc32=crc32, chunks=tuple(chunks))


def _chunks(source: Source) -> Iterator[bytes | memoryview]:
    if not isinstance(source, Path):
        whole = memoryview(source).cast("B")
        yield from (whole[at : at + CHUNK] for at in range(0, len(whole), CHUNK))
        return
    try:
        with open(source, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror})", do="check the path and its permissions") from error
