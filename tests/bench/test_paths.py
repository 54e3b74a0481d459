"""Sentences lose the folders of this machine and keep what is needed to understand them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefm.bench.paths import without_paths

from .conftest import fake
from .test_compare import run


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/opt/jane/lib/libengine.so.2: cannot open shared object", "libengine.so.2: cannot open shared object"),
        ("ended with 1 (ImportError: /a/b.py, line 3)", "ended with 1 (ImportError: b.py, line 3)"),
        ("there is no file or folder '/no/such/model/'", "there is no file or folder 'model'"),
        ("C:\\Users\\jane\\x.onnx is broken", "x.onnx is broken"),
        ("1/2 of 3.5 MB/s, see https://example.org/a/b", "1/2 of 3.5 MB/s, see https://example.org/a/b"),
        ("its process was ended by SIGKILL", "its process was ended by SIGKILL"),
        ("", ""),
    ],
)
def test_of_a_path_its_last_part_stays(text: str, told: str) -> None:
    assert without_paths(text) == told


def test_a_home_with_a_blank_and_a_named_file_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/Jane Doe"))
    assert without_paths("/home/Jane Doe/x/y.so is missing") == "y.so is missing"
    names = {"/scans/Jane Doe/1 a.png": "the image", "1 a.png": "the image"}
    assert (
        without_paths("/scans/Jane Doe/1 a.png is empty; 1 a.png, 21 a.png", names) == "the image is empty; the image, 21 a.png"
    )
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert without_paths("a / b") == "a / b"


def test_an_error_in_the_record_names_neither_the_image_nor_its_folder(tmp_path: Path) -> None:
    (record,) = run([fake("complains", "a")], 1, tmp_path)
    assert record["error"] == "the image cannot be read by engine.so"
