"""The labels of the rule and those of the conformal quantile are other patients', whenever both are asked for."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from edgefm.bundle import open_bundle
from edgefm.data import Dataset, clusters, load_data
from edgefm.errors import InputError
from edgefm.models import LoadedModel
from edgefm.quantize import quantize
from edgefm.quantize.conformal import check
from edgefm.quantize.halves import counted, halves
from edgefm.spec.recipe import QuantizeRecipe, Recipe

from .conftest import DATA, TASK

BOTH = Recipe(quantize=QuantizeRecipe(calibrate=True, coverage=0.8))
LARGER = "phantom:opacity?n=600&size=64"


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Sixty patients or so in `calibrate`, two images each."""
    read = load_data(LARGER)
    patients = tuple(f"P{index // 2}" for index in range(len(read)))
    splits = np.where(np.arange(len(read)) < 120, "calibrate", "train")
    return changed(read, patients=patients, splits=splits)


def test_each_patient_is_in_one_half_and_both_classes_in_both(data: Dataset) -> None:
    rule, sets = halves(data, BOTH)
    everyone = data.labelled("calibrate")
    assert np.array_equal(np.sort(np.r_[rule, sets]), everyone)
    who = clusters(data)
    assert not set(who[rule]) & set(who[sets])
    assert abs(len(rule) - len(sets)) <= 8
    assert data.labels is not None
    ill = [data.labels[rows].mean() for rows in (rule, sets)]
    assert ill == pytest.approx([data.labels[everyone].mean()] * 2, abs=0.1)
    assert counted(data, rule) == {"images": len(rule), "patients": len(rule) // 2}


def test_the_halves_hang_on_patients_and_not_on_the_order_of_the_data(data: Dataset) -> None:
    order = np.random.default_rng(0).permutation(len(data))
    other = data.take(order)
    for rows, again in zip(halves(data, BOTH), halves(other, BOTH)):
        assert {data.names[row] for row in rows} == {other.names[row] for row in again}
    without = changed(data, patients=None)  # then by the names of images
    turned = without.take(order)
    for rows, again in zip(halves(without, BOTH), halves(turned, BOTH)):
        assert {without.names[row] for row in rows} == {turned.names[row] for row in again}


@pytest.mark.parametrize("one", [{"calibrate": True}, {"coverage": 0.8}, {}])
def test_who_asks_for_one_only_has_all_labels(data: Dataset, one: dict[str, object]) -> None:
    rule, sets = halves(data, Recipe(quantize=QuantizeRecipe(**one)))  # type: ignore[arg-type]
    assert np.array_equal(rule, sets)
    assert np.array_equal(rule, data.labelled("calibrate"))


def test_one_patient_cannot_be_halved_and_half_of_the_labels_may_be_too_few(data: Dataset) -> None:
    with pytest.raises(InputError, match=r"with --calibrate and quantize\.coverage, has 1 patient, too few for rule, sets"):
        halves(changed(data, patients=("P",) * len(data)), BOTH)
    demanding = replace(BOTH, quantize=replace(BOTH.quantize, coverage=0.985))  # 66 images
    check(data, TASK, replace(demanding, quantize=replace(demanding.quantize, calibrate=False)))
    with pytest.raises(
        InputError, match=r"labelled images for it, the other half being those of --calibrate; expected at least"
    ):
        check(data, TASK, demanding)


def test_a_bundle_records_whose_labels_made_what(tmp_path: Path, model: LoadedModel, lenient: Recipe) -> None:
    recipe = replace(lenient, quantize=replace(lenient.quantize, calibrate=True, coverage=0.8, engines=("onnx",)))
    said: list[str] = []
    data = "phantom:opacity?n=900&size=64"
    out = quantize(model, data, tmp_path / "a.efm", recipe=recipe, report=said.append)
    read = load_data(data, recipe.data, labels=TASK.labels)
    rule, sets = (counted(read, rows) for rows in halves(read, recipe))
    assert min(rule["images"], sets["images"]) >= 30
    with open_bundle(out) as bundle:
        found = json.loads(bytes(bundle.view("evidence/quantize.json")))
        recorded = [variant.evidence for variant in bundle.manifest.variants]
        assert bundle.manifest.task.conformal is not msgspec.UNSET
    assert {key: found["rule"][key] for key in rule} == rule
    assert found["rule"]["said"] in said
    assert found["rule"]["thresholds_kept"] == []
    assert found["sets"] == sets
    for each in recorded:
        assert {name: each[f"rule_{name}"] for name in rule} == rule
        assert {name: each[f"sets_{name}"] for name in sets} == sets
        assert each["rule_thresholds_kept"] == 0
    assert any(f"from {sets['images']} images" in line for line in said)


def test_without_either_nothing_is_recorded_of_labels(tmp_path: Path, model: LoadedModel, lenient: Recipe) -> None:
    recipe = replace(lenient, quantize=replace(lenient.quantize, engines=("onnx",)))
    with open_bundle(quantize(model, DATA, tmp_path / "a.efm", recipe=recipe, report=lambda line: None)) as bundle:
        found = json.loads(bytes(bundle.view("evidence/quantize.json")))
        assert found["rule"] is found["sets"] is None
        assert not any(key.startswith(("rule_", "sets_")) for each in bundle.manifest.variants for key in each.evidence)
