"""MONAI's metadata: every key that its specification makes mandatory, filled from the manifest, and read by MONAI itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgefm.export.monai import UNSTATED, monai_metadata
from edgefm.spec.manifest import Ancestor
from edgefm.spec.task import Task
from tests.bundle.make_format1 import MANIFEST, PREPROCESS

# Of "metadata.json File" in MONAI's bundle specification.
MANDATORY = {
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "optional_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
}
TENSOR = {
    "type",
    "format",
    "modality",
    "num_channels",
    "spatial_shape",
    "dtype",
    "value_range",
    "is_patch_data",
    "channel_def",
}


def test_every_mandatory_key_is_there_and_what_nobody_stated_says_so() -> None:
    found = json.loads(monai_metadata(MANIFEST, PREPROCESS))
    assert set(found) >= MANDATORY
    for kind in ("inputs", "outputs"):
        assert found["network_data_format"][kind]
        for tensor in found["network_data_format"][kind].values():
            assert set(tensor) == TENSOR
    assert found["authors"] == found["intended_use"] == UNSTATED


def test_a_bundle_without_lineage_and_versions_has_metadata_too() -> None:
    found = json.loads(monai_metadata(replace(MANIFEST, lineage=(), versions={}), PREPROCESS))
    assert found["version"] == "0.0.0+unknown"
    assert found["pytorch_version"] == "unknown"


def test_other_weights_are_another_version() -> None:
    def version(digit: str) -> str:
        own = Ancestor(role="model", name="m", sha256=digit * 64)
        return str(json.loads(monai_metadata(replace(MANIFEST, lineage=(own,)), PREPROCESS))["version"])

    assert version("a") == "0.0.0+aaaaaaaaaaaa" != version("b")


def test_an_embedding_has_no_classes_and_no_metrics() -> None:
    found = json.loads(monai_metadata(replace(MANIFEST, task=Task(kind="embedding")), PREPROCESS))
    assert found["task"] == "an embedding of an image"
    assert "eval_metrics" not in found


@pytest.mark.peer
def test_monai_reads_it(tmp_path: Path) -> None:
    bundle = pytest.importorskip("monai.bundle")
    file = tmp_path / "metadata.json"
    file.write_bytes(monai_metadata(MANIFEST, PREPROCESS))
    parser = bundle.ConfigParser()
    parser.read_meta(str(file))
    assert parser.get("_meta_#version").startswith("0.0.0+")
    shape = parser["_meta_#network_data_format#inputs#images#spatial_shape"]
    assert shape == [PREPROCESS.size, PREPROCESS.size]
