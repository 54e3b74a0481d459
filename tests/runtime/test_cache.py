"""The user's cache folder: never another user's, never in the way, and each file whole."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgefm.runtime.cache import cache_folder, store


def test_another_users_folder_is_not_trusted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("x") == cache / "edgefm" / "x"
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    assert cache_folder("x") is None


def test_a_file_or_a_dead_link_in_the_way_is_no_folder(cache: Path) -> None:
    (cache / "edgefm").mkdir(parents=True)
    (cache / "edgefm" / "file").touch()
    (cache / "edgefm" / "link").symlink_to("nowhere/at/all")
    for name in ("file", "link"):
        assert cache_folder(name) is None
        assert cache_folder(name, "below") is None


def test_others_may_not_look_into_it(cache: Path) -> None:
    folder = cache_folder("choices")
    assert folder is not None
    assert folder.stat().st_mode & 0o077 == 0


def test_a_relative_cache_home_and_a_missing_home_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("x") == tmp_path / ".cache" / "edgefm" / "x"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder("x") is None


def test_a_file_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    assert store(tmp_path / "a", b"1")
    assert store(tmp_path / "a", b"22")
    assert (tmp_path / "a").read_bytes() == b"22"
    (tmp_path / "folder").mkdir()
    assert not store(tmp_path / "folder", b"in the way")
    assert not store(tmp_path / "gone" / "a", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_many_writers_of_one_file_leave_one_of_their_contents_and_nothing_else(tmp_path: Path) -> None:
    contents = [bytes([number]) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda data: store(tmp_path / "a", data), contents * 5))
    assert (tmp_path / "a").read_bytes() in contents
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
