"""Checking with fewer threads than wanted. What is refused is in test_archive.py, test_damage.py and test_manifest.py."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import msgspec
import pytest

from edgefm.bundle import check, open_bundle, write_bundle
from edgefm.errors import BundleError

from .make_format1 import MANIFEST, PREPROCESS


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose card takes nine chunks, enough for four threads."""
    path = tmp_path_factory.mktemp("large") / "large.efm"
    entries = {name: b"x" for variant in MANIFEST.variants for graph in variant.graphs.values() for name in graph.files}
    write_bundle(path, msgspec.structs.replace(MANIFEST, golden=()), PREPROCESS, {**entries, "card.md": bytes(9 << 20)})
    return path


@pytest.fixture(params=[0, 1], ids=["no thread starts", "one thread starts"])
def starts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Thread]:
    """The threads that were started, at most so many; then the system has no more."""
    started: list[Thread] = []
    honest = Thread.start

    def start(thread: Thread) -> None:
        if len(started) == request.param:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        honest(thread)

    monkeypatch.setattr(check, "_threads", lambda: 4)
    monkeypatch.setattr(Thread, "start", start)
    return started


def test_where_no_more_threads_are_to_be_had_the_others_check_everything(large: Path, starts: list[Thread]) -> None:
    with open_bundle(large) as bundle:
        assert len(bundle.view("card.md")) == 9 << 20
    assert len(starts) < 2


@pytest.mark.parametrize("chunk", range(9))
def test_and_damage_in_any_part_is_found(large: Path, starts: list[Thread], chunk: int, tmp_path: Path) -> None:
    data = bytearray(large.read_bytes())
    with open_bundle(large) as bundle:
        start = next(where.start for name, where in bundle._places.items() if name == "card.md")
    data[start + (chunk << 20)] ^= 1
    (tmp_path / "x.efm").write_bytes(data)
    starts.clear()
    with pytest.raises(BundleError, match=r"card\.md has been changed"):
        open_bundle(tmp_path / "x.efm")
