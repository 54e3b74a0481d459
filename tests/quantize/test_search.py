"""Where int8 changes too much, trials follow in their order, and a no loses nothing of what was found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from onnx import numpy_helper
from PIL import Image

from edgefm.bundle import open_bundle
from edgefm.errors import BundleError, GateRefused, InputError
from edgefm.models import LoadedModel
from edgefm.quantize import quantize, search, trial
from edgefm.runtime.session import Session
from edgefm.spec.manifest import Manifest
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import make_task

from .planted import RECIPE, planted

pytest.importorskip("nncf")


def with_gate(recipe: Recipe = RECIPE, **changes: Any) -> Recipe:
    return replace(recipe, quantize=replace(recipe.quantize, **changes))


def done(
    model: LoadedModel, data: str | Path, out: Path, recipe: Recipe = RECIPE, **options: Any
) -> tuple[Manifest, dict[str, Any], list[str]]:
    """The manifest, `evidence/quantize.json`, and what was said. A refusal is a result here."""
    said: list[str] = []
    try:
        quantize(model, data, out, recipe=recipe, report=said.append, **options)
    except GateRefused as error:
        said.append(str(error))
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(out.name)] == [out.name]
    with open_bundle(out) as bundle:
        return bundle.manifest, msgspec.json.decode(bundle.view("evidence/quantize.json")), said


@pytest.mark.parametrize(
    ("kind", "tried", "made"),
    [
        ("bias", ["int8", "biases corrected"], {"biases_corrected"}),
        (
            "outlier",
            ["int8", "biases corrected", "1 layer in float"],
            {"biases_corrected", "layers_in_float"},
        ),
        (
            "logits",
            ["int8", "1 layer in float", "2 layers in float", "logits refitted"],
            {"layers_in_float", "logit_scale", "logit_shift_0", "logit_shift_1"},
        ),
    ],
)
def test_each_kind_of_damage_is_recovered_by_its_own_remedy(
    kind: str, tried: list[str], made: set[str], pictures: Path, tmp_path: Path
) -> None:
    model = planted(kind)
    manifest, found, said = done(model, pictures, tmp_path / "model.efm")
    assert [each["name"] for each in found["trials"]] == tried
    assert found["kept"] == tried[-1]
    assert all(each["reasons"]["onnx-int8"] for each in found["trials"][:-1])
    assert manifest.refused is None
    assert manifest.task == model.task  # what was refitted is in the int8 graph: fp32 decides as it did
    fp32, int8 = manifest.variants
    assert fp32.flips == 0
    assert int8.flips is not None
    assert int8.flips <= RECIPE.quantize.max_flips
    ranges = {"ranges_from_histograms"}
    assert made == {key for key in int8.evidence if "drop" not in key and not key.startswith("flips")} - ranges
    assert {"auc_drop", "auc_drop_low", "auc_drop_high", "flips_low", "flips_high"} <= set(int8.evidence)
    assert any("the gate says no to the first int8: onnx-int8: " in line for line in said)
    assert "the gate says yes, on 32 images, which can prove no more than" in said[-1]
    assert found["chosen_among"] == len(tried)
    assert any(f"was chosen among {len(tried)} trials on these same images" in line for line in said)


@pytest.mark.parametrize("damaged", [False, True], ids=["that hold everything", "from histograms"])
def test_of_two_kinds_of_ranges_the_one_that_errs_less_is_taken_and_named(
    damaged: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = search.quantize_onnx

    def worse(proto: Any, calibration: Any, *, histograms: bool) -> Any:
        graph = make(proto, calibration, histograms=histograms)
        if histograms == damaged:
            scales = {node.input[1] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
            for each in graph.graph.initializer:
                if each.name in scales:
                    each.CopyFrom(numpy_helper.from_array(np.asarray(3 * numpy_helper.to_array(each)), each.name))
        return graph

    monkeypatch.setattr(search, "quantize_onnx", worse)
    manifest, _, said = done(planted("bias"), pictures, tmp_path / "model.efm")
    assert ("ranges_from_histograms" in manifest.variants[1].evidence) == (not damaged)
    (line,) = (line for line in said if "calibration images: " in line and "are taken" in line)
    assert line.endswith("the former are taken" if damaged else "the latter are taken")


def test_several_labels_are_refitted_each_with_its_own_threshold(pictures: Path, tmp_path: Path) -> None:
    by_value = sorted(pictures.rglob("*.png"), key=lambda path: int(np.asarray(Image.open(path))[0, 0]))
    rows = [
        f"{path},{'bright|light' if path.parent.name == 'bright' else '|'},{('val', 'calibrate')[index % 2]}\n"
        for index, path in enumerate(by_value)  # in turn, so that a cut between two of one split fits the other, too
    ]
    table = tmp_path / "labels.csv"
    table.write_text("file,label,split\n" + "".join(rows))
    task = replace(make_task("multilabel", ("bright", "light")), thresholds=(0.5, 0.4))
    manifest, found, _ = done(planted("logits", task), table, tmp_path / "model.efm", with_gate())
    assert found["kept"] == "logits refitted"
    assert manifest.refused is None
    assert manifest.task == task
    assert {"logit_shift_0", "logit_shift_1"} <= set(manifest.variants[1].evidence)


def test_an_embedding_has_no_logits_to_refit_and_goes_back_to_float_step_by_step(tmp_path: Path) -> None:
    from tests.export.small import build_small

    from .conftest import DATA

    model = build_small("test_efficientnet", make_task("embedding"))
    recipe = with_gate(Recipe(), engines=("onnx",), calibration_images=8, max_drop=0.0)
    manifest, found, said = done(model, DATA, tmp_path / "model.efm", recipe)
    names = [each["name"] for each in found["trials"]]
    assert names[:4] == ["int8", "biases corrected", "1 layer in float", "2 layers in float"]
    assert "logits refitted" not in names
    excess = {each["name"]: each["excess"] for each in found["trials"]}
    assert excess[names[-1]] == min(excess.values()) < excess["int8"]
    assert manifest.refused
    assert said[-1].startswith(f"{tmp_path / 'model.efm'} is written, but marked as refused: onnx-int8: mean cosine falls")


def test_if_nothing_passes_the_refused_bundle_holds_the_best(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "rank", lambda *_: [])  # nothing is sensitive, so no layer goes back to float
    out = tmp_path / "model.efm"
    manifest, found, said = done(planted("outlier"), pictures, out)
    assert [each["name"] for each in found["trials"]] == [
        "int8",
        "biases corrected",
        "1 layer in float",
        "logits refitted",
    ]
    excess = {each["name"]: each["excess"] for each in found["trials"]}
    assert 0 < excess[found["kept"]] == min(excess.values())
    assert manifest.refused is not None
    assert f"{out} is written, but marked as refused: {manifest.refused}" in said[-1]
    assert [variant.name for variant in manifest.variants] == ["onnx-fp32", "onnx-int8"]
    with pytest.raises(BundleError, match="refused"):
        Session(out)


def test_each_trial_shows_how_far_it_is(pictures: Path, tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []
    done(planted("bias"), pictures, tmp_path / "model.efm", bar=lambda share, left: seen.append((share, left)))
    assert [share for share, _ in seen].count(1.0) == 3  # fp32, int8, corrected biases: each to its end
    shares = [share for share, _ in seen][: [share for share, _ in seen].index(1.0) + 1]
    assert shares == sorted(shares) == [(number + 1) / len(shares) for number in range(len(shares))]
    assert all(left >= 0 for _, left in seen)


def test_no_trial_starts_after_its_time(pictures: Path, tmp_path: Path) -> None:
    manifest, found, said = done(planted("bias"), pictures, tmp_path / "model.efm", with_gate(minutes=1e-6))
    assert [each["name"] for each in found["trials"]] == ["int8"]
    assert any("1e-06 minutes are over before the trial 'biases corrected'" in line for line in said)
    assert manifest.refused is not None


def test_time_that_runs_out_while_layers_are_ranked_is_said_too(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "rank", lambda *_: None)
    manifest, found, said = done(planted("outlier"), pictures, tmp_path / "model.efm")
    assert [each["name"] for each in found["trials"]] == ["int8", "biases corrected"]
    assert any("minutes are over before the trial '1 layer in float'" in line for line in said)
    assert manifest.refused is not None


def test_a_variant_that_fails_is_left_out_where_another_passes(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = trial.refusals
    monkeypatch.setattr(
        trial, "refusals", lambda row, *rest: ["it differs"] if row.name == "openvino-int8" else judge(row, *rest)
    )
    recipe = with_gate(engines=("openvino", "onnx"), max_drop=1.0, max_flips=1.0)
    manifest, _, said = done(planted("bias"), pictures, tmp_path / "model.efm", recipe)
    assert [variant.name for variant in manifest.variants] == ["openvino-fp32", "onnx-fp32", "onnx-int8"]
    assert not any("openvino-int8" in name for name in manifest.entries)
    assert "openvino-int8 is left out: it differs" in said
    assert manifest.refused is None


def test_one_class_only_in_val_leaves_the_flips_to_find_the_damage(pictures: Path, tmp_path: Path) -> None:
    rows = [(path, path.parent.name) for path in sorted(pictures.rglob("*.png"))]
    bright = [path for path, label in rows if label == "bright"]
    split = {path: ("val" if path in bright[:30] else "calibrate") for path, _ in rows}
    table = tmp_path / "labels.csv"
    table.write_text("file,label,split\n" + "".join(f"{path},{label},{split[path]}\n" for path, label in rows))
    manifest, found, said = done(planted("bias"), table, tmp_path / "model.efm")
    assert found["kept"] == "biases corrected"
    assert any("auc, specificity, balanced accuracy: undefined on these images" in line for line in said)
    evidence = manifest.variants[1].evidence
    assert "auc_drop" not in evidence
    assert {"flips", "flips_low", "flips_high", "sensitivity_drop"} <= set(evidence)


def with_three(pictures: Path, folder: Path, *, of: str, others: str) -> Path:
    """A CSV of the pictures: three in one split, all others in another."""
    rows = [(path, path.parent.name) for path in sorted(pictures.rglob("*.png"))]
    three = rows[::30]
    assert len(three) == 3
    lines = [f"{path},{label},{of if (path, label) in three else others}\n" for path, label in rows]
    table = folder / "labels.csv"
    table.write_text("file,label,split\n" + "".join(lines))
    return table


def test_a_calibrate_split_of_three_images_works_and_is_told(pictures: Path, tmp_path: Path) -> None:
    table = with_three(pictures, tmp_path, of="calibrate", others="val")
    manifest, _, said = done(planted("bias"), table, tmp_path / "model.efm")
    assert manifest.recipe["quantize"]["calibration_images"] == 3
    assert any("calibration: 3 images" in line and "only the gate can tell" in line for line in said)


def test_a_yes_on_three_images_is_never_a_bare_yes(pictures: Path, tmp_path: Path) -> None:
    table = with_three(pictures, tmp_path, of="val", others="calibrate")
    manifest, found, said = done(planted("bias"), table, tmp_path / "model.efm")
    assert manifest.refused is None
    assert said[-1].endswith("yes, on 3 images, which can prove no more than that at most 63.2 % of decisions change")
    assert any("never happened to 3 images may still happen to 63.2 % of others (95 %)" in line for line in said)
    assert found["gate"]["provable_flips"] == pytest.approx(1 - 0.05 ** (1 / 3))
    assert said[-1].endswith(found["gate"]["verdict"])


def test_the_trials_are_not_kept_open_for_others(pictures: Path, tmp_path: Path) -> None:
    """Two runs to one output: the second is refused while the first works."""
    out = tmp_path / "model.efm"
    refused: list[InputError] = []

    def second(line: str) -> None:
        if line.startswith("the best so far is kept") and not refused:
            with pytest.raises(InputError, match="another edgefm process") as error:
                quantize(planted("bias"), pictures, out, recipe=RECIPE, report=lambda line: None)
            refused.append(error.value)

    quantize(planted("bias"), pictures, out, recipe=RECIPE, report=second)
    assert refused
    assert os.listdir(tmp_path) == ["model.efm"]
