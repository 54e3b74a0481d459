"""The verdict on a bundle: what measured, who answered, whether engines agree, and what to know before reading the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.runtime.instructions import caps
from edgefm.verify.verdict import verdict

from ..runtime.conftest import MakeBundle, make_bundle  # noqa: F401
from .people import Greys, contender

LEVELS = [10, 60, 110, 160, 210, 240]


def judged(path: Path, images: Greys, groups: np.ndarray, **options: Any) -> dict[str, Any]:
    with open_bundle(path) as bundle:
        return verdict(
            bundle,
            images,
            options.get("reference"),
            groups=groups,
            about={"name": "greys", "split": "test", "left_out": 0},
            seed=0,
            bar=lambda share, left: None,
            capped=options.get("capped", False),
            draws=50,
        )


def test_what_measured_and_what_was_measured_is_recorded(make_bundle: MakeBundle) -> None:  # noqa: F811
    path = make_bundle("binary", ("openvino-fp32", "onnx-int8"))
    patients = ["a", "a", "b", "b", "c", "c"]
    found = judged(path, Greys(LEVELS, [0, 1, 0, 1, 0, 1], patients), np.array(patients))
    assert set(found["versions"]) == {"openvino", "onnxruntime"}
    assert found["data"] == {
        "name": "greys", "split": "test", "left_out": 0, "images": 6, "labelled": True, "groups": 3, "by": "patient",
    }  # fmt: skip
    assert found["reference"] == "openvino-fp32"
    assert found["parity"] == {"passed": True, "limit": 1e-3, "inputs": 3, "reasons": []}
    assert found["notes"][0] == "from 3 patients the intervals are narrower than they should be"
    assert "what never happened to 3 patients may still happen to 100.0 % of others" in found["notes"][-1]
    assert found["intervals"] == {"level": 0.95, "draws": 50, "seed": 0}


def test_a_bundle_for_edgefms_own_engine_is_measured_under_caps_too_and_has_no_library(tmp_path: Path) -> None:
    pytest.importorskip("edgefm._native")
    pytest.importorskip("timm")
    from ..native.bundles import BINARY, write_native

    write_native(tmp_path / "native.efm", "class token", BINARY)
    found = judged(tmp_path / "native.efm", Greys(LEVELS, [0, 1, 0, 1, 0, 1]), np.arange(6), capped=True)
    assert found["versions"] == {}
    assert found["parity"]["passed"], found["parity"]["reasons"]
    assert [each["name"] for each in found["variants"]] == ["native-int8", "native-fp32"]
    assert [(each["variant"], each["cap"]) for each in found["older"]] == [
        (variant, cap.openvino) for variant in ("native-int8", "native-fp32") for cap in caps()
    ]
    assert all(each["largest_difference"] <= 1e-3 for each in found["older"] if each["variant"] == "native-fp32")


def test_few_images_without_patients_labels_or_golden_inputs_are_all_noted(make_bundle: MakeBundle) -> None:  # noqa: F811
    found = judged(make_bundle(golden=False), Greys([100]), np.arange(1))
    notes = " / ".join(found["notes"])
    for words in ("no labels", "no golden inputs", "no patients are named", "one image only, so there are no intervals"):
        assert words in notes


def test_two_engines_apart_on_real_images_break_parity_even_if_no_golden_input_shows_it(
    make_bundle: MakeBundle,  # noqa: F811
) -> None:
    images = Greys(LEVELS, [0, 1, 0, 1, 0, 1])
    found = judged(make_bundle(golden=False, wrong=("onnx-fp32",)), images, np.arange(6))
    assert not found["parity"]["passed"]
    assert found["parity"]["reasons"][0].startswith("openvino-fp32 and onnx-fp32 are ")


def test_an_embedding_of_another_width_than_the_references_is_noted(make_bundle: MakeBundle) -> None:  # noqa: F811
    images = Greys(LEVELS, [0, 1, 0, 1, 0, 1])
    found = judged(make_bundle("embedding"), images, np.arange(6), reference=contender("teacher"))
    assert [each["name"] for each in found["variants"]] == ["teacher", "openvino-fp32", "onnx-fp32"]
    assert found["variants"][1]["mean_cosine"] is None
    assert "knn_accuracy" in found["variants"][1]["difference"]
    assert any("no cosine" in note for note in found["notes"])


def test_neither_labels_nor_a_reference_is_an_error_before_any_image_is_read(make_bundle: MakeBundle) -> None:  # noqa: F811
    images = Greys(LEVELS)
    with pytest.raises(InputError, match="nothing to compare with"):
        judged(make_bundle(variants=("onnx-int8",)), images, np.arange(6))
    assert images.read == [0] * 6
