"""What is told of a bundle and of a model's nodes, as plain values."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edgefm.errors import BundleError, InputError
from edgefm.inspection import inspect_bundle, inspect_taps
from tests.bundle.make_format1 import FIXTURE, IDENTITY, MANIFEST


def test_a_damaged_bundle_is_not_described(tmp_path: Path) -> None:
    data = bytearray(FIXTURE.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.efm").write_bytes(data)
    with pytest.raises(BundleError):
        inspect_bundle(tmp_path / "x.efm")


def test_a_model_is_told_to_need_taps_and_a_wrong_path_is_a_wrong_path(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.onnx is not an \.efm file\. Add --taps"):
        inspect_bundle(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"is not an \.efm file"):
        inspect_bundle(tmp_path)
    with pytest.raises(BundleError, match="does not exist"):
        inspect_bundle(tmp_path / "gone")


def test_everything_of_the_manifest_that_a_person_asks_for_is_there_and_is_json() -> None:
    found = inspect_bundle(FIXTURE)
    assert json.loads(json.dumps(found)) == json.loads(msgspec.json.encode(found))
    assert (found["id"], found["name"], found["format"], found["golden"]) == (IDENTITY, "tiny", 1, 1)
    assert found["bytes"] == FIXTURE.stat().st_size
    assert found["refused"] is None
    assert [variant["name"] for variant in found["variants"]] == [variant.name for variant in MANIFEST.variants]
    assert [variant["bytes"] for variant in found["variants"]] == [105, 6]  # graph and weights, graph alone
    assert found["licences"] == ["Apache-2.0"]
    assert found["task"]["labels"] == ("normal", "größer")


def test_nodes_come_with_kind_and_shape(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.models.test_frozen import graph

    found = inspect_taps(graph(tmp_path / "net.onnx"), trust_remote_code=False)
    assert found["source"].endswith("net.onnx")
    assert {"name": "features", "kind": "Relu", "shape": [-1, 6, 8, 8]} in found["taps"]
    json.dumps(found)
