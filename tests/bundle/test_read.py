"""What a caller of `open_bundle` gets, and what a mistaken path gets."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgefm.bundle import open_bundle, write_bundle
from edgefm.errors import BundleError

from .make_format1 import ENTRIES, FIXTURE, MANIFEST, PREPROCESS

WEIGHTS = "variants/onnx-fp32/encoder.weights"


def test_a_path_to_nothing_a_folder_a_pipe_or_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.efm").touch()
    os.mkfifo(tmp_path / "pipe.efm")
    (tmp_path / "dangling.efm").symlink_to("nowhere")
    for name, says in (
        ("missing.efm", "does not exist"),
        ("dangling.efm", "does not exist"),
        ("", "is a folder"),
        ("pipe.efm", "is a device or a pipe"),
        ("empty.efm", "is empty"),
        ("empty.efm/x", "cannot be opened"),
        ("nul\0.efm", "cannot be opened"),
        ("x" * 300, "cannot be opened"),
    ):
        with pytest.raises(BundleError, match=says) as caught:
            open_bundle(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert caught.value.do


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.efm"
    path.write_bytes(FIXTURE.read_bytes())
    path.chmod(0)
    with pytest.raises(BundleError, match="Permission denied"):
        open_bundle(path)


def test_a_bundle_in_a_read_only_place_opens(tmp_path: Path) -> None:
    path = tmp_path / "x.efm"
    path.write_bytes(FIXTURE.read_bytes())
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        open_bundle(str(path)).close()
    finally:
        tmp_path.chmod(0o755)


def test_an_unknown_member_is_refused_with_the_known_ones() -> None:
    with open_bundle(FIXTURE) as bundle:
        for name in ("gone", "../card.md", ""):
            with pytest.raises(BundleError, match=r"has no member .*; expected one of manifest\.json, card\.md"):
                bundle.view(name)


def test_a_view_can_be_written_to_and_the_file_does_not_notice(tmp_path: Path) -> None:
    path = tmp_path / "x.efm"
    path.write_bytes(FIXTURE.read_bytes())
    with open_bundle(path) as bundle:
        np.frombuffer(bundle.view(WEIGHTS), np.uint8)[:] = 7
        assert bundle.view(WEIGHTS) == bytes([7]) * 100
    assert path.read_bytes() == FIXTURE.read_bytes()


def test_views_outlive_the_bundle_and_nothing_else_does() -> None:
    bundle = open_bundle(FIXTURE)
    array = np.frombuffer(bundle.view(WEIGHTS), np.uint8)
    bundle.close()
    bundle.close()
    del bundle
    gc.collect()
    assert bytes(array) == ENTRIES[WEIGHTS]
    with open_bundle(FIXTURE) as bundle:
        pass
    with pytest.raises(BundleError, match="is closed"):
        bundle.view(WEIGHTS)


def test_a_bundle_closed_while_a_view_is_in_use_is_closed_all_the_same() -> None:
    bundle = open_bundle(FIXTURE)
    view = bundle.view(WEIGHTS)
    bundle.close()
    with pytest.raises(BundleError, match="is closed"):
        bundle.view(WEIGHTS)
    assert view == ENTRIES[WEIGHTS]


def test_eight_threads_may_read_and_open_at_once() -> None:
    with open_bundle(FIXTURE) as bundle, ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: (open_bundle(FIXTURE).id, bytes(bundle.view(WEIGHTS))), range(64)))
    assert set(seen) == {(bundle.id, ENTRIES[WEIGHTS])}


def test_no_map_and_no_file_stays_behind(tmp_path: Path) -> None:
    broken = tmp_path / "broken.efm"
    broken.write_bytes(FIXTURE.read_bytes().replace(b"# tiny", b"# evil"))

    def held() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count(".efm")

    before = held()
    for _ in range(20):
        open_bundle(FIXTURE).close()
        with pytest.raises(BundleError):
            open_bundle(broken)
    assert held() == before


def test_opening_maps_and_does_not_copy(tmp_path: Path, root: Path) -> None:
    path, size = tmp_path / "large.efm", 90 << 20
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(1 << 20) * 90)
    write_bundle(path, MANIFEST, PREPROCESS, {**ENTRIES, WEIGHTS: source})
    code = f"""
import sys, zlib
from pathlib import Path
from edgefm.bundle import open_bundle
open_bundle({str(FIXTURE)!r}).close()
def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Anonymous:", "Swap:"))) << 10
before = private()
bundle = open_bundle({str(path)!r})
views = [bundle.view(name) for name in bundle.names()]
zlib.crc32(views[bundle.names().index({WEIGHTS!r})])
print(private() - before, sum(map(len, views)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    grown, seen = map(int, done.stdout.split())
    assert seen > size
    assert grown < 2 << 20


def test_the_room_stands_on_floor_0_alone(root: Path) -> None:
    code = "import sys, edgefm.bundle; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    heavy = {"numpy", "PIL", "yaml", "rich", "click", "torch", "onnxruntime", "openvino", "zipfile"}
    assert not heavy & set(done.stdout.split())
