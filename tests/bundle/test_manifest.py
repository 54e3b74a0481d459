"""Bundles whose bytes are all held by the right hashes, but whose manifest should not be believed: each is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgefm.bundle import open_bundle
from edgefm.spec.manifest import Golden, Manifest

from .forge import MEMBERS, forge, manifest_of, refusal
from .make_format1 import variant


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (b"", "cannot be read"),
        (b"null", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"format":1}', "does not hold a Manifest"),
        (b'{"format":0}', "does not hold a Manifest"),
        (b'{"format":"1"}', "cannot be read"),
        (b"[" * 200_000, "cannot be read"),
        (b'{"format":1,"recipe":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "cannot be read"),
        (b'{"a":"\xff","format":1}', "does not hold"),
        (b"\x80\x04\x95", "cannot be read"),
        (manifest_of() + b"\n", "not canonical"),
        (manifest_of().replace(b'"format":1', b'"format": 1'), "not canonical"),
        (manifest_of().replace(b'"format":1', b'"format":2,"format":1'), "not canonical"),
        (manifest_of().replace(b'"parity":0.0', b'"parity":-0'), "not canonical"),
        (manifest_of().replace("ö".encode(), b"\\u00f6"), "not canonical"),
        (manifest_of().replace(b'"name":"tiny"', b'"name":"\\ud800"'), "cannot be read"),
        (manifest_of().replace(b'"name":"tiny"', b'"name":"tiny","more":1'), "upgrade EdgeFM here"),
        (manifest_of().replace(b'"name":"tiny"', b'"\\u001b[2J":1,"name":"tiny"'), r"unknown field `\x1b[2J`"),
        (manifest_of().replace(b"0.9", b"1e999"), "does not hold a Manifest"),
        (manifest_of().replace(b"0.9", b"NaN"), "cannot be read"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_manifest_that_is_not_canonical_is_refused(manifest: bytes, says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, forge(manifest))


def test_a_field_that_the_writer_did_not_know_yet_takes_its_default(tmp_path: Path) -> None:
    path = tmp_path / "older.efm"
    path.write_bytes(forge(manifest_of().replace(b'"refused":null,', b"")))
    with open_bundle(path) as bundle:
        assert bundle.manifest.refused is None


def test_a_manifest_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    assert "at most 16777216" in refusal(tmp_path, forge(b" " * (1 << 24) + b"{}"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variants": ()}, "at least one"),
        ({"variants": (variant("onnx", "fp32", "encoder.onnx"),) * 2}, "none twice"),
        (
            {"variants": (variant("onnx", "fp32", "gone.onnx"),)},
            "variant onnx-fp32 names 'variants/onnx-fp32/gone.onnx', which is not",
        ),
        ({"variants": (variant("onnx", "fp32", "../../card.md"),)}, "which is not there"),
        ({"variants": (variant("onnx", "fp32"),)}, "names no file"),
        (
            {"variants": (msgspec.structs.replace(variant("onnx", "fp32", "encoder.onnx"), engine="native"),)},
            "a variant is called",
        ),
        ({"golden": (Golden(name="a", pixels="golden/gone.npy", outputs={}),)}, "golden input 'a' names 'golden/gone.npy'"),
        ({"golden": (Golden(name="a", pixels="card.md", outputs={}),)}, "which is not there"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_manifest_that_names_what_is_not_there_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, forge(manifest_of(**changes)))


def test_a_wrong_number_of_chunks_is_refused(tmp_path: Path) -> None:
    entries = msgspec.json.decode(manifest_of(), type=Manifest).entries
    for chunks in ((), entries["card.md"].chunks * 2):
        wrong = {**entries, "card.md": msgspec.structs.replace(entries["card.md"], chunks=chunks)}
        assert "chunk hashes" in refusal(tmp_path, forge(manifest_of(entries=wrong)))


@pytest.mark.parametrize(
    "labels", [b'["normal"]', b'["normal","gr\xc3\xb6\xc3\x9fer"] ', b'["gr\xc3\xb6\xc3\x9fer","normal"]', b""]
)
def test_labels_that_differ_from_the_task_are_refused(labels: bytes, tmp_path: Path) -> None:
    members = {**MEMBERS, "labels.json": labels}
    assert "labels.json differs" in refusal(tmp_path, forge(manifest_of(members), list(members.items())))


@pytest.mark.parametrize(
    "preprocess", [b"{}", b"", MEMBERS["preprocess.json"] + b" ", MEMBERS["preprocess.json"].replace(b"0.25", b"0.0")]
)
def test_a_preprocessing_that_cannot_be_meant_is_refused(preprocess: bytes, tmp_path: Path) -> None:
    members = {**MEMBERS, "preprocess.json": preprocess}
    assert "preprocess.json" in refusal(tmp_path, forge(manifest_of(members), list(members.items())))
