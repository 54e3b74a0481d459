"""One wrong byte anywhere, or one missing, and nobody gets to see the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgefm.bundle import check, open_bundle, write_bundle
from edgefm.errors import BundleError

from .make_format1 import FIXTURE, MANIFEST, PREPROCESS


@pytest.mark.parametrize("damage", ["one bit", "all bits"])
def test_every_byte_flipped_is_refused_and_no_parser_sees_it(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = FIXTURE.read_bytes(), tmp_path / "flipped.efm"
    path.write_bytes(whole)
    seen: set[bytes] = set()
    decode, parse = check.decode, msgspec.json.decode

    def watched_decode(data: bytes, *rest: Any, **options: Any) -> Any:
        seen.add(data)
        return decode(data, *rest, **options)

    def watched_parse(data: bytes, **rest: Any) -> Any:
        seen.add(data)
        return parse(data, **rest)

    monkeypatch.setattr(check, "decode", watched_decode)
    monkeypatch.setattr(msgspec.json, "decode", watched_parse)
    open_bundle(path).close()
    right = set(seen)
    assert len(right) == 2, "manifest.json and preprocess.json are the only members that are parsed"
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ (1 << at % 8 if damage == "one bit" else 0xFF)]), at)
            with pytest.raises(BundleError) as caught:
                open_bundle(path)
            assert str(caught.value).isprintable(), at
            os.pwrite(file.fileno(), bytes([byte]), at)
    assert seen == right
    open_bundle(path).close()


def test_a_bundle_cut_at_any_length_is_refused(tmp_path: Path) -> None:
    whole, path = FIXTURE.read_bytes(), tmp_path / "cut.efm"
    path.write_bytes(whole)
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        with pytest.raises(BundleError, match=r"cut short|is empty|no EdgeFM bundle"):
            open_bundle(path)


def test_a_bundle_that_grew_at_either_end_is_refused(tmp_path: Path) -> None:
    whole, path = FIXTURE.read_bytes(), tmp_path / "grown.efm"
    for grown in (whole + b"\0", b"\0" + whole, whole + whole, b"#!/bin/sh\n" + whole, bytes(64) + whole, whole[:64] + whole):
        path.write_bytes(grown)
        with pytest.raises(BundleError):
            open_bundle(path)


def test_damage_in_any_chunk_of_a_large_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "large.efm"
    large = "variants/onnx-fp32/encoder.weights"
    entries = {name: b"x" for variant in MANIFEST.variants for graph in variant.graphs.values() for name in graph.files}
    golden = {"golden/dot.npy": b"", "golden/dot-logits.npy": b""}
    write_bundle(path, MANIFEST, PREPROCESS, {**entries, **golden, large: os.urandom(9_000_001)})
    with open_bundle(path) as bundle:
        start = path.read_bytes().index(bundle.view(large))
    for offset in (0, check.CHUNK - 1, check.CHUNK, 5 * check.CHUNK + 17, 9_000_000):
        with open(path, "r+b") as file:
            before = os.pread(file.fileno(), 1, start + offset)
            os.pwrite(file.fileno(), bytes([before[0] ^ 4]), start + offset)
            with pytest.raises(BundleError, match=r"encoder\.weights has been changed between the bytes \d+ and \d+") as caught:
                open_bundle(path)
            numbers = [int(word) for word in caught.value.found.split() if word.isdecimal()]
            assert numbers[0] <= start + offset < numbers[1] <= numbers[0] + check.CHUNK
            os.pwrite(file.fileno(), before, start + offset)
    open_bundle(path).close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_while_checking_counts_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    path = tmp_path / "large.efm"
    entries = {name: b"x" for variant in MANIFEST.variants for graph in variant.graphs.values() for name in graph.files}
    write_bundle(path, msgspec.structs.replace(MANIFEST, golden=()), PREPROCESS, {**entries, "card.md": bytes(9 << 20)})
    honest = check.sha256

    def dies(data: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        return honest(data)

    monkeypatch.setattr(check, "_threads", lambda: 3)
    monkeypatch.setattr(check, "sha256", dies)
    with pytest.raises(BundleError, match=r"card\.md has been changed"):
        open_bundle(path)


def test_when_the_check_is_stopped_no_thread_reads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import time

    path = tmp_path / "large.efm"
    entries = {name: b"x" for variant in MANIFEST.variants for graph in variant.graphs.values() for name in graph.files}
    write_bundle(path, msgspec.structs.replace(MANIFEST, golden=()), PREPROCESS, {**entries, "card.md": bytes(9 << 20)})
    honest = check.sha256

    def stopped(data: Any) -> Any:
        if len(data) < check.CHUNK:  # not a chunk of card.md
            return honest(data)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.05)
        return honest(data)

    monkeypatch.setattr(check, "_threads", lambda: 3)
    monkeypatch.setattr(check, "sha256", stopped)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        open_bundle(path)
    assert threading.active_count() == before
