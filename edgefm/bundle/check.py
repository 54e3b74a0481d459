"""What must hold before anybody may look into a bundle, in the order in which it is asked.

Not the opening of files: this sees one memoryview. No parser but our own sees a byte before its SHA-256 is known to be right:
layout → comment, which holds the digest of the manifest and of what was appended → manifest → members → labels, preprocessing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from threading import Event, Thread
from typing import NamedTuple

import msgspec

from ..errors import BundleError
from ..spec.manifest import FORMAT, Manifest
from ..spec.preprocess import Preprocess
from .canonical import decode
from .layout import ENDING, Member, Place, ending, newer, read_layout
from .names import LABELS, MANIFEST, PREPROCESS, is_appended

CHUNK = 1 << 20
LARGEST_JSON = 1 << 24
MOST_THREADS = 8
Forget = Callable[[int, int], None]


class Checked(NamedTuple):
    """What a good bundle says about itself."""

    id: str
    manifest: Manifest
    preprocess: Preprocess
    places: Mapping[str, Place]


class _Chunk(NamedTuple):
    name: str
    start: int
    stop: int
    sha256: str


class _Version(msgspec.Struct):
    format: int


def check(view: memoryview, forget: Forget = lambda start, stop: None) -> Checked:
    """Check a whole bundle, given as unsigned 8-bit `[file size]`; `forget(start, stop)` is called for bytes that are done.

    Raises:
        BundleError: what is wrong, without the name of the file.
    """
    members, places = read_layout(view)
    where = dict(zip((member.name for member in members), places, strict=True))
    data = _json(view, MANIFEST, where)
    identity = _check_comment(view, data, members, places)
    manifest = _read_manifest(data)
    _check_listing(manifest, data, members)
    check_references(manifest)
    _check_chunks(view, manifest, where, forget)
    if _json(view, LABELS, where) != msgspec.json.encode(manifest.task.labels):
        raise BundleError(f"{LABELS} differs from the labels in {MANIFEST}")
    preprocess = decode(_json(view, PREPROCESS, where), Preprocess, PREPROCESS, complete=True)
    return Checked(identity, manifest, preprocess, where)


def check_references(manifest: Manifest) -> None:
    """Raise `BundleError` unless variants have their right names and all their files, and golden inputs theirs."""
    for name in (LABELS, PREPROCESS):
        if name not in manifest.entries:
            raise BundleError(f"{name} is missing", expected="it in every bundle")
    names = [variant.name for variant in manifest.variants]
    if not names or len(set(names)) < len(names):
        raise BundleError(f"{MANIFEST} lists the variants {names}", expected="at least one, and none twice")
    for variant in manifest.variants:
        if variant.name != f"{variant.engine}-{variant.precision}":
            raise BundleError(f"a variant is called {variant.name!a}", expected=f"{variant.engine}-{variant.precision}")
        for graph in variant.graphs.values():
            _check_files(manifest, f"variant {variant.name}", graph.files, "variants/")
    for golden in manifest.golden:
        _check_files(manifest, f"golden input {golden.name!a}", (golden.pixels, *golden.outputs.values()), "golden/")


def _check_files(manifest: Manifest, owner: str, files: Sequence[str], folder: str) -> None:
    for file in files:
        if file not in manifest.entries or not file.startswith(folder):
            raise BundleError(f"{owner} names {file!a}, which is not there", expected=f"a member in {folder}")
    if not files:
        raise BundleError(f"{owner} names no file", expected=f"a member in {folder}")


def _json(view: memoryview, name: str, where: Mapping[str, Place]) -> bytes:
    _, start, stop = where[name]
    if stop - start > LARGEST_JSON:
        raise BundleError(f"{name} takes {stop - start} bytes", expected=f"at most {LARGEST_JSON}")
    return bytes(view[start:stop])


def _check_comment(view: memoryview, manifest: bytes, members: Sequence[Member], places: Sequence[Place]) -> str:
    """Compare the end of the file with the digests it must hold; the bundle id."""
    # the directory begins where the last member stops
    stop = places[-1].stop
    first = sum(not is_appended(member.name) for member in members)
    start = places[first].header if first < len(places) else stop
    end = len(view) - ENDING
    identity, appended = sha256(manifest).hexdigest(), sha256(view[start:stop]).hexdigest()
    found, expected = bytes(view[end:]), ending(len(members), end - stop, stop, identity, appended)
    if found != expected:
        what = "evidence or signatures have" if identity.encode() in found else f"{MANIFEST} has"
        raise BundleError(f"{what} been changed: the SHA-256 in the archive comment differs")
    return identity


def _read_manifest(data: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(data, type=_Version).format
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BundleError(f"{MANIFEST} cannot be read ({error})") from error
    if version > FORMAT:
        raise newer(version)
    return decode(data, Manifest, MANIFEST)


def _check_listing(manifest: Manifest, data: bytes, members: Sequence[Member]) -> None:
    """The archive must hold what the manifest lists, no more and no less, with the same sizes and checksums."""
    there = {member.name: member for member in members if not is_appended(member.name)}
    listed = {name: Member(name, entry.size, entry.crc32) for name, entry in manifest.entries.items()}
    if MANIFEST in listed:
        raise BundleError(f"{MANIFEST} lists {MANIFEST!a}, which cannot hold its own hash")
    listed[MANIFEST] = Member(MANIFEST, len(data), zlib.crc32(data))
    for name in sorted(there.keys() - listed.keys()):
        raise BundleError(f"it holds {name}, which {MANIFEST} does not list")
    for name in sorted(listed.keys() - there.keys()):
        raise BundleError(f"{MANIFEST} lists {name!a}, which is absent")
    for name, member in there.items():
        if member != listed[name]:
            found, expected = (f"{m.size} bytes with checksum {m.crc32:08x}" for m in (member, listed[name]))
            raise BundleError(f"{name} is stated to have {found}", expected=expected)


def _check_chunks(view: memoryview, manifest: Manifest, where: Mapping[str, Place], forget: Forget) -> None:
    chunks = []
    for name, entry in manifest.entries.items():
        _, start, stop = where[name]
        starts = range(start, stop, CHUNK)
        if len(starts) != len(entry.chunks):
            raise BundleError(f"{name} has {len(entry.chunks)} chunk hashes", expected=f"{len(starts)}, one per {CHUNK} bytes")
        chunks += [_Chunk(name, at, min(at + CHUNK, stop), digest) for at, digest in zip(starts, entry.chunks, strict=True)]
    right: set[_Chunk] = set()
    over = Event()

    def work(part: Sequence[_Chunk]) -> None:
        for chunk in part:
            if over.is_set():
                return
            if sha256(view[chunk.start : chunk.stop]).hexdigest() == chunk.sha256:
                right.add(chunk)
            forget(chunk.start, chunk.stop)

    count = max(1, min(_threads(), MOST_THREADS, sum(chunk.stop - chunk.start for chunk in chunks) // (2 * CHUNK)))
    own, *others = [chunks[i::count] for i in range(count)]
    threads = [Thread(target=work, args=(part,)) for part in others]
    try:
        for thread, part in zip(threads, others, strict=True):
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread": this one does its part
                own += part
        work(own)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    except BaseException:  # Ctrl-C: whoever called takes the bytes away next, so nobody may read them any more
        over.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        raise
    # a chunk that no thread found right is wrong: a thread that died has found nothing
    for chunk in chunks:
        if chunk not in right:
            raise BundleError(f"{chunk.name} has been changed between the bytes {chunk.start} and {chunk.stop} of the file")


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
