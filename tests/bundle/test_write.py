"""What the writer makes, and what it leaves behind when it cannot."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgefm.bundle import open_bundle, write, write_bundle
from edgefm.bundle.check import CHUNK
from edgefm.errors import InputError
from edgefm.partial import partial_file
from edgefm.spec.manifest import Manifest
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task

from .make_format1 import ENTRIES, FIXTURE, IDENTITY, MANIFEST, PREPROCESS, variant

GRAPH = {"variants/onnx-fp32/encoder.onnx": b"graph"}
EMBEDDING = Manifest(
    name="embedding", edgefm="0.1.0", task=make_task("embedding"), variants=(variant("onnx", "fp32", "encoder.onnx"),)
)

WORD = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}[A-Za-z0-9_]", fullmatch=True)
NAME = st.one_of(
    st.builds("golden/{}".format, WORD),
    st.builds("licences/{}/{}".format, WORD, WORD),
    st.builds("adapters/{}/{}".format, WORD, WORD),
    st.builds("variants/openvino-int8/{}".format, WORD),
)
SIZE = st.sampled_from([0, 1, 63, 64, 65, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]) | st.integers(0, 300)


def test_a_reason_of_several_lines_becomes_one_and_a_name_of_several_is_refused(tmp_path: Path) -> None:
    refused = msgspec.structs.replace(EMBEDDING, refused="too many flips:\n\t\x1b[31m3 %\0")
    write_bundle(tmp_path / "refused.efm", refused, PREPROCESS, GRAPH)
    with open_bundle(tmp_path / "refused.efm") as bundle:
        assert bundle.manifest.refused == "too many flips: [31m3 % "
    for wrong in (
        msgspec.structs.replace(EMBEDDING, name="a\nb"),
        msgspec.structs.replace(EMBEDDING, task=make_task("binary", ("no", "y\0es"))),
    ):
        with pytest.raises(InputError, match="cannot be written"):
            write_bundle(tmp_path / "wrong.efm", wrong, PREPROCESS, GRAPH)


@settings(max_examples=60, deadline=None)
@given(sizes=st.dictionaries(NAME, SIZE, max_size=8))
def test_whatever_is_written_is_read_back_aligned_and_whole(
    sizes: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folded = {name.lower() for name in sizes}
    assume(len(folded) == len(sizes))
    assume(not any(other.startswith(f"{name}/") for name in folded for other in folded))
    entries = {**GRAPH, **{name: bytes([len(name)]) * size for name, size in sizes.items()}}
    path = tmp_path_factory.mktemp("any") / "any.efm"
    identity = write_bundle(path, EMBEDDING, PREPROCESS, entries)
    with open_bundle(path) as bundle, zipfile.ZipFile(path) as stranger:
        assert bundle.id == identity
        assert list(bundle.names()) == stranger.namelist()
        assert list(bundle.names())[1:] == sorted([*entries, "labels.json", "preprocess.json"])
        for name, data in entries.items():
            assert bundle.view(name) == data == stranger.read(name)
            if data:
                assert np.frombuffer(bundle.view(name), np.uint8).ctypes.data % 64 == 0


def test_a_stranger_finds_nothing_wrong_and_no_date_but_the_first(tmp_path: Path) -> None:
    with zipfile.ZipFile(FIXTURE) as stranger:
        assert stranger.testzip() is None
        for info in stranger.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.flag_bits == 0
        stranger.extractall(tmp_path)
    assert (tmp_path / "variants/onnx-fp32/encoder.weights").read_bytes() == ENTRIES["variants/onnx-fp32/encoder.weights"]


def test_unzip_finds_nothing_wrong() -> None:
    try:
        done = subprocess.run(["unzip", "-tqq", FIXTURE], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unzip on this machine")
    assert (done.returncode, done.stderr) == (0, "")


def test_files_are_streamed_and_give_the_same_bytes_as_their_content(tmp_path: Path) -> None:
    content = os.urandom(3 * CHUNK + 5)
    (tmp_path / "weights").write_bytes(content)
    for name, source in (("a", content), ("b", tmp_path / "weights"), ("c", memoryview(content))):
        write_bundle(tmp_path / name, EMBEDDING, PREPROCESS, {**GRAPH, "golden/big.npy": source})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_the_order_in_which_entries_are_given_does_not_matter(tmp_path: Path) -> None:
    backwards = dict(reversed(ENTRIES.items()))
    assert write_bundle(tmp_path / "x.efm", MANIFEST, PREPROCESS, backwards) == IDENTITY


def test_whole_numbers_in_float_fields_give_the_same_id(tmp_path: Path) -> None:
    whole = Preprocess(window16=(0, 4095), mean=(0, 0, 0), std=(1, 1, 1))
    point = Preprocess(window16=(0.0, 4095.0), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    one = write_bundle(tmp_path / "one.efm", EMBEDDING, whole, GRAPH)
    assert one == write_bundle(tmp_path / "two.efm", EMBEDDING, point, GRAPH)
    with open_bundle(tmp_path / "one.efm") as bundle:
        assert isinstance(bundle.preprocess.window16[0], float)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "x.efm"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"exists already.*--force"):
        write_bundle(path, EMBEDDING, PREPROCESS, GRAPH)
    assert path.read_bytes() == b"precious"
    write_bundle(path, EMBEDDING, PREPROCESS, GRAPH, force=True)
    open_bundle(path).close()


def test_an_open_bundle_outlives_its_replacement(tmp_path: Path) -> None:
    path = tmp_path / "x.efm"
    write_bundle(path, EMBEDDING, PREPROCESS, GRAPH)
    with open_bundle(path) as old:
        write_bundle(path, EMBEDDING, PREPROCESS, dict.fromkeys(GRAPH, b"other"), force=True)
        assert old.view(next(iter(GRAPH))) == b"graph"


def test_a_folder_is_not_replaced_even_by_force(tmp_path: Path) -> None:
    (tmp_path / "x.efm").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write_bundle(tmp_path / "x.efm", EMBEDDING, PREPROCESS, GRAPH, force=True)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({**GRAPH, "labels.json": b"[]"}, "labels.json cannot be given"),
        ({**GRAPH, "manifest.json": b"{}"}, "manifest.json cannot be given"),
        ({**GRAPH, "evidence/x": b""}, "evidence/x cannot be given"),
        ({**GRAPH, "../x": b""}, "leads out of the bundle"),
        ({**GRAPH, "golden/grün.npy": b""}, "has no place"),
        ({**GRAPH, "golden/a": b"", "golden/A": b""}, "comes twice"),
        ({}, "names 'variants/onnx-fp32/encoder.onnx', which is not there"),
        ({**GRAPH, "golden/x": Path("/no/such/file")}, "/no/such/file cannot be read"),
        ({**GRAPH, "golden/x": Path("/")}, "/ cannot be read"),
    ],
)
def test_entries_that_make_no_bundle_are_refused_before_anything_is_written(
    entries: dict[str, write.Source], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        write_bundle(tmp_path / "x.efm", EMBEDDING, PREPROCESS, entries)
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_no_reader_could_read_is_refused(tmp_path: Path) -> None:
    nan = msgspec.structs.replace(EMBEDDING.variants[0], accuracy={"auc": math.nan})
    with pytest.raises(InputError, match=r"Manifest cannot be written.*accuracy"):
        write_bundle(tmp_path / "x.efm", msgspec.structs.replace(EMBEDDING, variants=(nan,)), PREPROCESS, GRAPH)
    with pytest.raises(InputError, match="format 2"):
        write_bundle(tmp_path / "x.efm", msgspec.structs.replace(EMBEDDING, format=2), PREPROCESS, GRAPH)
    assert not list(tmp_path.iterdir())


def test_more_than_a_zip_archive_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 32)
    entries = {**GRAPH, "golden/huge.npy": tmp_path / "huge"}
    measured = {name: write.measure(b"") for name in entries}
    measured["golden/huge.npy"] = msgspec.structs.replace(measured["golden/huge.npy"], size=1 << 32)
    with pytest.raises(InputError, match=r"would have .* bytes; expected at most .* and 4294967294"):
        write.assemble(tmp_path / "x.efm", b"{}", entries, measured, force=False)
    many = {f"golden/{i}": b"" for i in range(65534)}
    with pytest.raises(InputError, match="would have 65535 members"):
        write.assemble(tmp_path / "x.efm", b"{}", many, dict.fromkeys(many, write.measure(b"")), force=False)


def test_a_source_that_changes_while_it_is_read_gives_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"before")
    honest = write.measure

    def measure_then_change(given: write.Source) -> write.Entry:
        entry = honest(given)
        if given == source:
            source.write_bytes(b"after!")
        return entry

    monkeypatch.setattr(write, "measure", measure_then_change)
    with pytest.raises(InputError, match="has been changed"):
        write_bundle(tmp_path / "x.efm", EMBEDDING, PREPROCESS, {**GRAPH, "golden/x": source})
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("room", [0, 100, 4096, 1 << 20])
def test_a_full_disk_leaves_nothing_behind_and_the_old_file_alone(room: int, tmp_path: Path, root: Path) -> None:
    code = f"""
import os, resource, sys
from pathlib import Path
from tests.bundle.make_format1 import *
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
entries = {{**ENTRIES, "golden/big.npy": bytes(2 << 20)}}
write_bundle(Path({str(tmp_path / "x.efm")!r}), MANIFEST, PREPROCESS, entries, force=True)
"""
    (tmp_path / "x.efm").write_bytes(b"precious")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgefm.errors.InputError: ")
    assert "cannot be written (File too large)" in last
    assert "Free some space" in last
    assert [path.name for path in tmp_path.iterdir()] == ["x.efm"]
    assert (tmp_path / "x.efm").read_bytes() == b"precious"


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> None:
        assert path.endswith("x.efm.partial")
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "open_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "x.efm", EMBEDDING, PREPROCESS, GRAPH)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x.efm.partial").write_bytes(bytes(10_000))
    write_bundle(tmp_path / "x.efm", MANIFEST, PREPROCESS, ENTRIES)
    assert [path.name for path in tmp_path.iterdir()] == ["x.efm"]
    open_bundle(tmp_path / "x.efm").close()


def test_a_verbs_working_folder_may_lie_at_the_partial_name(tmp_path: Path) -> None:
    work = tmp_path / "x.efm.partial"
    work.mkdir()
    (work / "checkpoint").touch()
    write_bundle(tmp_path / "x.efm", MANIFEST, PREPROCESS, ENTRIES)
    assert [path.name for path in work.iterdir()] == ["checkpoint"]
    open_bundle(tmp_path / "x.efm").close()


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with partial_file(tmp_path / "x.efm") as file:
        file.write(b"mine")
        with pytest.raises(InputError, match="another edgefm process is writing"):
            write_bundle(tmp_path / "x.efm", MANIFEST, PREPROCESS, ENTRIES)
    assert (tmp_path / "x.efm").read_bytes() == b"mine"
