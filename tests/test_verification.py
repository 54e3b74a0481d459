"""The verb `verify`: refuses what cannot be measured in a line, reads the data as the bundle's own, and tells no names."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgefm
from edgefm.errors import BundleError, ImageError, InputError, ParityError
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import Task
from edgefm.verification import FILES, recorded
from edgefm.views import show_verify

from .runtime.conftest import MakeBundle, make_bundle  # noqa: F401

BINARY = Task(kind="binary", labels=("clear", "opacity"), thresholds=(0.5,))
PHANTOM = "phantom:opacity?n=60&size=32"
HEAVY = ("torch", "triton", "timm", "transformers", "nncf", "onnx", "sklearn", "scipy", "matplotlib")


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:  # noqa: F811
    return make_bundle(task=BINARY)


def table(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A CSV of noise images, one per row."""
    random = np.random.default_rng(0)
    for row in rows:
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / row["file"])
    with open(folder / "data.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "data.csv"


def cases(count: int = 12, labels: tuple[str, ...] = ("clear", "opacity")) -> list[dict[str, str]]:
    """Rows of the split test, two images per patient."""
    return [
        {"file": f"SECRET{n}.png", "label": labels[n % len(labels)], "patient": f"JANE-DOE-{n // 2}", "split": "test"}
        for n in range(count)
    ]


def test_a_bundle_verifies_without_torch_and_with_one_engine_only(make_bundle: MakeBundle) -> None:  # noqa: F811
    path = make_bundle(task=BINARY, variants=("onnx-fp32", "onnx-int8"))
    code = f"""
import json, sys
import numpy as np
import edgefm
assert edgefm.Session({str(path)!r}).predict(np.zeros((9, 9), np.uint8)).label
found = edgefm.verify({str(path)!r}, data={PHANTOM!r})
assert found["variants"][1]["metrics"]["auc"]["value"] > 0
heavy = {{*{HEAVY!r}, "openvino"}} & {{name for name, module in sys.modules.items() if module is not None}}
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_labels_other_than_the_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labelled cat, dog \(binary\); expected the labels of the bundle: clear, opacity"):
        edgefm.verify(bundle, data=table(tmp_path, cases(labels=("cat", "dog"))))


def test_a_split_that_is_not_there_is_named_with_those_that_are(bundle: Path, tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in cases()]
    data = table(tmp_path, rows)
    with pytest.raises(InputError, match="no images in the split 'test'"):
        edgefm.verify(bundle, data=data)
    found = edgefm.verify(bundle, data=data, split="all")
    assert found["data"]["images"] == 12
    assert found["data"]["split"] == "all"


def test_a_broken_image_is_named_with_its_row_or_left_out_as_the_recipe_says(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = table(tmp_path, cases())
    (tmp_path / "SECRET3.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    with pytest.raises(ImageError, match="row 5 of"):
        edgefm.verify(bundle, data=data)
    with caplog.at_level("INFO", logger="edgefm"):
        found = edgefm.verify(bundle, data=data, set=("data.broken=skip",))
    assert (found["data"]["images"], found["data"]["left_out"]) == (11, 1)
    assert any("left out" in line and "row 5" in line for line in caplog.messages)


def test_one_class_only_is_measured_as_far_as_it_goes(bundle: Path, tmp_path: Path) -> None:
    found = edgefm.verify(bundle, data=table(tmp_path, cases(labels=("opacity",))))
    metrics = found["variants"][0]["metrics"]
    assert math.isnan(metrics["auc"]["value"])
    assert 0 <= metrics["sensitivity"]["value"] <= 1
    assert any("undefined on these images: auc" in note for note in found["notes"])


def test_without_labels_only_differences_are_measured(bundle: Path, tmp_path: Path) -> None:
    rows = [{"file": row["file"], "patient": row["patient"], "split": "test"} for row in cases()]
    found = edgefm.verify(bundle, data=table(tmp_path, rows))
    assert found["variants"][1]["metrics"] == {}
    assert found["variants"][1]["flips"]["count"] == 0
    assert any("no labels" in note for note in found["notes"])


def test_nothing_to_compare_and_no_labels_is_an_error(make_bundle: MakeBundle, tmp_path: Path) -> None:  # noqa: F811
    path = make_bundle(task=BINARY, variants=("onnx-int8",))
    rows = [{"file": row["file"], "split": "test"} for row in cases()]
    with pytest.raises(InputError, match="nothing to compare with"):
        edgefm.verify(path, data=table(tmp_path, rows))
    found = edgefm.verify(path, data=PHANTOM)
    assert found["reference"] is None
    assert found["variants"][0]["metrics"]["auc"]["low"] < found["variants"][0]["metrics"]["auc"]["high"]


def test_single_labels_measure_a_bundle_of_several(make_bundle: MakeBundle, tmp_path: Path) -> None:  # noqa: F811
    names = ("effusion", "mass", "nodule", "hernia")
    found = edgefm.verify(make_bundle("multilabel"), data=table(tmp_path, cases(labels=names[:3])))
    assert list(found["variants"][0]["labels"]) == list(names)
    assert math.isnan(found["variants"][0]["labels"]["hernia"]["sensitivity"]["value"])


def test_answers_that_are_no_numbers_end_it_with_the_name_of_the_variant(make_bundle: MakeBundle) -> None:  # noqa: F811
    path = make_bundle(task=BINARY, scale=1e38, golden=False)
    with pytest.raises(ParityError, match="openvino-fp32 gives logits that are not finite numbers for image 1 of"):
        edgefm.verify(path, data=PHANTOM)


def test_a_refused_bundle_needs_the_word(make_bundle: MakeBundle) -> None:  # noqa: F811
    path = make_bundle(task=BINARY, refused="too many decisions change")
    with pytest.raises(BundleError, match=r"too many decisions change.*--allow-refused"):
        edgefm.verify(path, data=PHANTOM)
    found = edgefm.verify(path, data=PHANTOM, allow_refused=True)
    assert found["bundle"]["refused"] == "too many decisions change"


def test_engines_that_disagree_end_with_4_and_the_findings_are_there(
    make_bundle: MakeBundle,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = edgefm.verify(make_bundle(task=BINARY, wrong=("onnx-fp32",)), data=PHANTOM)
    assert not found["parity"]["passed"]
    assert [reason.partition(" ")[0] for reason in found["parity"]["reasons"]] == ["onnx-fp32:", "openvino-fp32"]
    assert show_verify(found, as_json=False) == 4
    assert "PARITY IS BROKEN: onnx-fp32: logits off by" in " ".join(capsys.readouterr().out.split())


def test_what_is_written_holds_no_file_names_and_no_patients_and_is_the_same_each_time(bundle: Path, tmp_path: Path) -> None:
    data = table(tmp_path, cases())
    texts = []
    for name in ("one", "two"):
        found = edgefm.verify(bundle, data=data, out=tmp_path / name)
        texts.append([(tmp_path / name / file).read_text() for file in FILES])
        assert not list((tmp_path / name).glob("*.partial"))
    assert texts[0] == texts[1]
    for text in (*texts[0], json.dumps(found)):
        assert "SECRET" not in text
        assert "JANE" not in text
        assert str(tmp_path) not in text
    kept = json.loads(texts[0][0])
    assert kept["variants"][0]["metrics"]["auc"]["value"] == found["variants"][0]["metrics"]["auc"]["value"]
    assert (found["data"]["groups"], found["data"]["by"]) == (6, "patient")


def test_an_earlier_page_is_not_replaced_without_force_and_its_neighbours_stay(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.md").write_text("earlier")
    (out / "bench.json").write_text("{}")
    with pytest.raises(InputError, match=r"report.md exists already"):
        edgefm.verify(bundle, data=PHANTOM, out=out)
    edgefm.verify(bundle, data=PHANTOM, out=out, force=True)
    assert (out / "report.md").read_text().startswith("# Verification of small")
    assert (out / "bench.json").read_text() == "{}"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; expected a folder"):
        edgefm.verify(bundle, data=PHANTOM, out=tmp_path / "file")


def test_another_bundle_is_a_reference(make_bundle: MakeBundle, bundle: Path) -> None:  # noqa: F811
    low = make_bundle(task=Task(kind="binary", labels=BINARY.labels, thresholds=(1.0,)), variants=("onnx-int8",))
    found = edgefm.verify(bundle, data=PHANTOM, against=low)
    assert found["reference"] == "small: onnx-int8"
    assert [each["name"] for each in found["variants"]] == ["small: onnx-int8", "openvino-fp32", "onnx-fp32"]
    assert found["variants"][1]["flips"]["count"] == found["data"]["images"]  # they answer alike and decide unlike
    assert found["variants"][1]["largest_difference"] < 1e-6
    assert [(pair["one"], pair["other"]) for pair in found["between"]] == [("openvino-fp32", "onnx-fp32")]


def test_a_reference_that_answers_another_question_is_refused(make_bundle: MakeBundle, bundle: Path) -> None:  # noqa: F811
    other = make_bundle("multiclass")
    with pytest.raises(InputError, match="small: openvino-fp32 answers multiclass: a, b, c; expected binary: clear, opacity"):
        edgefm.verify(bundle, data=PHANTOM, against=other)
    with pytest.raises(BundleError, match="marked as refused"):
        edgefm.verify(bundle, data=PHANTOM, against=make_bundle(task=BINARY, refused="no"))


def module(side: int, labels: tuple[str, ...]) -> Any:
    import torch

    made = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(side * side, len(labels)))
    torch.manual_seed(0)
    torch.nn.init.normal_(made[1].weight)
    made.preprocess = edgefm.Preprocess(channels=1, size=side, resize_to=side, mean=(0.5,), std=(0.25,))
    made.labels = labels
    return made


def test_a_torch_model_with_a_way_of_its_own_to_prepare_is_a_reference(bundle: Path) -> None:
    found = edgefm.verify(bundle, data=PHANTOM, against=module(8, BINARY.labels).eval())
    first, second = found["variants"][:2]
    assert first["reference"]
    assert first["name"].endswith(": torch")
    assert set(second["difference"]) == set(first["metrics"])
    assert 0 < second["largest_difference"] <= 1
    assert found["parity"]["passed"]  # an outside reference may differ


def test_a_torch_model_in_training_mode_or_of_other_labels_is_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="training mode"):
        edgefm.verify(bundle, data=PHANTOM, against=module(8, BINARY.labels).train())
    with pytest.raises(InputError, match="answers binary: opacity, clear; expected binary: clear, opacity"):
        edgefm.verify(bundle, data=PHANTOM, against=module(8, ("opacity", "clear")).eval())


def test_embeddings_are_verified_by_cosine_and_neighbours(make_bundle: MakeBundle) -> None:  # noqa: F811
    found = edgefm.verify(make_bundle("embedding"), data=PHANTOM)
    one, two = found["variants"]
    assert set(one["metrics"]) == {"knn_accuracy", "probe_accuracy"}
    assert two["mean_cosine"]["value"] == pytest.approx(1, abs=1e-6)
    assert two["cka"]["value"] == pytest.approx(1, abs=1e-6)
    assert two["flips"] is None
    assert found["parity"]["passed"]


def told(recipe: dict[str, Any]) -> tuple[Recipe, list[str]]:
    lines: list[str] = []
    return recorded(recipe, "the bundle", lines.append), lines


def test_the_data_are_read_and_cut_as_they_were_for_the_bundle() -> None:
    found, lines = told({"seed": 7, "data": {"label": "finding", "val": 0.3}, "distill": {"epochs": 3}})
    assert (found.seed, found.data.label, found.data.val) == (7, "finding", 0.3)
    assert lines == ["the data are read as they were for the bundle, with data.label=finding, data.val=0.3; --set changes it"]
    assert told({}) == (Recipe(), [])


def test_a_recipe_of_another_version_is_not_believed_in_silence() -> None:
    found, lines = told({"data": {"tomorrow": 1}})
    assert found == Recipe()
    assert "not one of this version" in lines[0]


def test_the_seed_of_the_intervals_does_not_move_images_between_splits(bundle: Path) -> None:
    one, two = (edgefm.verify(bundle, data="phantom:opacity?n=400&size=16", seed=seed) for seed in (1, 2))
    assert one["data"] == two["data"]
    first, second = (found["variants"][0]["metrics"] for found in (one, two))
    assert {name: each["value"] for name, each in first.items()} == {name: each["value"] for name, each in second.items()}
    assert first["auc"]["low"] != second["auc"]["low"]


def test_a_table_fits_a_terminal_of_100_columns(make_bundle: MakeBundle, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    wide = make_bundle(task=BINARY, variants=("openvino-fp32", "openvino-int8", "onnx-fp32", "onnx-int8"), bf16=True)
    found = edgefm.verify(wide, data=PHANTOM)
    assert show_verify(found, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("openvino-int8" in line for line in lines)
    assert show_verify(found, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["task"]["labels"] == ["clear", "opacity"]
