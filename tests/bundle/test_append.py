"""Evidence comes later: the id stays, and what was appended is held all the same."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from edgefm.bundle import append_evidence, open_bundle
from edgefm.errors import BundleError, InputError

from .make_format1 import FIXTURE, IDENTITY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(FIXTURE, tmp_path / "x.efm"))


def test_the_id_stays_and_the_evidence_comes_last(path: Path) -> None:
    append_evidence(path, "signatures/clinic.sig", b"signed")
    append_evidence(path, "evidence/a-second-report.json", b"[]")
    with open_bundle(path) as bundle:
        assert bundle.id == IDENTITY
        assert bundle.names()[-3:] == ("evidence/report.json", "signatures/clinic.sig", "evidence/a-second-report.json")
        assert bundle.view("signatures/clinic.sig") == b"signed"
        assert not any(name.startswith(("evidence/", "signatures/")) for name in bundle.manifest.entries)
    with zipfile.ZipFile(path) as stranger:
        assert stranger.testzip() is None


def test_the_bytes_before_the_evidence_do_not_change(path: Path) -> None:
    before = path.read_bytes()
    append_evidence(path, "evidence/b", b"")
    assert path.read_bytes().startswith(before[: before.index(b"PK\1\2")])


def test_every_byte_of_large_evidence_is_held(path: Path) -> None:
    append_evidence(path, "evidence/big", os.urandom(3_000_000))
    start = path.read_bytes().index(b"evidence/big")
    for offset in (12, 64, 1_000_000, 3_000_000):
        with open(path, "r+b") as file:
            before = os.pread(file.fileno(), 1, start + offset)
            os.pwrite(file.fileno(), bytes([before[0] ^ 1]), start + offset)
            with pytest.raises(BundleError):
                open_bundle(path)
            os.pwrite(file.fileno(), before, start + offset)
    open_bundle(path).close()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("card.md", "cannot be appended"),
        ("golden/new.npy", "cannot be appended"),
        ("evidence/../card.md", "leads out"),
        ("../card.md", "cannot be appended"),
        ("evidence/", "has no place"),
        ("evidence/report.json", "has evidence/report.json already"),
        ("evidence/Report.json", "comes twice"),
        ("evidence/report.json/x", "a file and a folder"),
    ],
)
def test_a_name_that_cannot_be_appended_is_refused_and_the_bundle_stays(name: str, says: str, path: Path) -> None:
    with pytest.raises(InputError, match=says) as caught:
        append_evidence(path, name, b"x")
    assert path.read_bytes() == FIXTURE.read_bytes()
    assert "partial" not in str(caught.value)
    assert [child.name for child in path.parent.iterdir()] == ["x.efm"]


def test_a_damaged_bundle_gets_no_evidence(path: Path) -> None:
    path.write_bytes(FIXTURE.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError):
        append_evidence(path, "evidence/x", b"")
