"""The gate's word comes from the end of an interval, and what the images cannot show is not assumed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgefm.errors import InputError
from edgefm.spec.gate import DEFAULTS, Gate
from edgefm.spec.task import TaskKind, make_task
from edgefm.verify.answers import Answers
from edgefm.verify.gate import ALPHA, askable, floors, judged
from edgefm.verify.statement import statements

from .people import BINARY, Greys, answered, contender

Array = npt.NDArray[Any]
NONE: dict[str, float] = {}


def interval(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "undefined": 0}


def record(name: str = "onnx-int8", **fields: Any) -> dict[str, Any]:
    """Its metrics are one half, where no share varies more than it does already."""
    metrics = {what: interval(0.5, 0.4, 0.6) for what in fields.get("difference", {})}
    return {
        "name": name, "reference": False, "metrics": metrics, "difference": {}, "flips": None, "mean_cosine": None, **fields,
    }  # fmt: skip


def flips(low: float, share: float, high: float) -> dict[str, Any]:
    return {"count": round(100 * share), "of": 100, "share": interval(share, low, high)}


@pytest.mark.parametrize(("low", "passes"), [(-0.24, True), (-0.25, False), (-0.3, False)])
def test_the_end_of_the_interval_decides_and_not_the_value(low: float, passes: bool) -> None:
    found = judged([record(difference={"auc": interval(0.125, low, 0.5)})], Gate(auc=0.25), NONE)
    assert found["passed"] is passes
    assert found["checks"][0]["loss"] == -0.125
    assert found["checks"][0]["worst"] == -low
    assert len(found["reasons"]) == (not passes)


def test_of_brier_a_rise_is_the_loss() -> None:
    found = judged([record(difference={"brier": interval(0.02, -0.05, 0.03)})], Gate(brier=0.04), NONE)
    assert found["passed"]
    assert found["checks"][0]["worst"] == 0.03
    assert not judged([record(difference={"brier": interval(0.0, -0.05, 0.05)})], Gate(brier=0.04), NONE)["passed"]


def test_of_a_cosine_what_is_missing_to_one_is_the_loss() -> None:
    found = judged([record(mean_cosine=interval(0.98, 0.97, 0.99))], Gate(mean_cosine=0.05), NONE)
    assert found["passed"]
    assert found["checks"][0]["worst"] == pytest.approx(0.03)


def test_a_model_whose_probabilities_are_sharpened_decides_alike_and_is_refused_for_its_calibration() -> None:
    random = np.random.default_rng(0)
    margin = random.normal(0, 2, 600)
    labels = (random.random(600) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    logits = {"honest": margin, "sharp": 2 * margin, "drift": margin + random.normal(0, 0.1, 600)}

    def answers(name: str) -> Answers:
        p = 1 / (1 + np.exp(-logits[name]))
        decided = (p >= 0.5).astype(np.int64)
        both = np.stack([1 - p, p], axis=1)
        return Answers(contender=contender(name), probabilities=both, decided=decided, embedding=None, cosine=None)

    honest, sharp, drift = map(answers, logits)
    found = statements([honest, sharp, drift], honest, labels, np.arange(600), seed=0, draws=200)
    verdict = judged(found, Gate(auc=0.02, sensitivity=0.05, calibration_slope=0.4), floors(labels, np.arange(600), BINARY))
    assert [(each["name"], each["what"]) for each in verdict["checks"] if not each["passed"]] == [
        ("sharp", "calibration_slope")
    ]
    assert verdict["reasons"][0].startswith("sharp: probabilities may be ")
    slopes = [each["calibration_slope"]["value"] for each in found]
    assert found[0]["slope_loss"] is None
    assert found[1]["slope_loss"]["value"] == pytest.approx(abs(math.log(slopes[1])) - abs(math.log(slopes[0])))


def rare(errors: int, gain: float = 1.0, better: int = 0) -> list[dict[str, Any]]:
    """A reference with so many errors in 300 images, and a model that is as good, but for `better` errors less."""
    random = np.random.default_rng(errors)
    labels = np.arange(300) % 2
    right = np.abs(random.normal(5, 1.5, 300)) + 0.2
    margins = [right.copy(), right * np.exp(random.normal(0, 0.05, 300))]
    for margin, wrong in zip(margins, (errors, errors - better)):
        margin[:wrong] = -np.abs(margin[:wrong] - 4)

    def answers(name: str, margin: Array) -> Answers:
        p = 1 / (1 + np.exp(-margin * (2 * labels - 1)))
        both = np.stack([1 - p, p], axis=1)
        decided = (p >= 0.5).astype(np.int64)
        return Answers(contender=contender(name), probabilities=both, decided=decided, embedding=None, cosine=None)

    teacher, small = answers("teacher", margins[0]), answers("small", gain * margins[1])
    return statements([teacher, small], teacher, labels, np.arange(300), seed=0, draws=200)


@pytest.mark.parametrize(("errors", "better"), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (1, 1), (3, 2), (4, 4)])
def test_where_errors_are_rare_calibration_is_not_judged_and_the_verdict_says_so(errors: int, better: int) -> None:
    labels = np.arange(300) % 2
    found = judged(rare(errors, better=better), DEFAULTS["binary"], floors(labels, np.arange(300), BINARY))
    slope = next(each for each in found["checks"] if each["what"] == "calibration_slope")
    assert slope["passed"] is None
    assert math.isnan(slope["worst"])
    assert found["not_judged"] == ["small: calibration slope: not judged: too few errors"]
    assert found["passed"]
    assert found["reasons"] == []


def test_with_more_errors_calibration_is_judged() -> None:
    for gain, passes in ((1.0, True), (3.0, False)):
        found = judged(rare(12, gain), Gate(calibration_slope=0.4), NONE)
        assert found["passed"] is passes
        assert found["not_judged"] == []


def test_errors_of_its_own_are_no_loss_of_calibration_and_mending_it_is_none_either() -> None:
    random = np.random.default_rng(0)
    seen = random.normal(1.6, 1, 600)  # of the true label: about 33 errors
    logits = {"teacher": 2 * 3.2 * seen, "small": 3.2 * (seen + random.normal(0, 0.2, 600))}  # twice too sure; mended
    labels = np.arange(600) % 2

    def answers(name: str) -> Answers:
        p = 1 / (1 + np.exp(-logits[name] * (2 * labels - 1)))
        decided = (p >= 0.5).astype(np.int64)
        both = np.stack([1 - p, p], axis=1)
        return Answers(contender=contender(name), probabilities=both, decided=decided, embedding=None, cosine=None)

    teacher, small = map(answers, logits)
    found = statements([teacher, small], teacher, labels, np.arange(600), seed=0, draws=200)
    assert judged(found, Gate(calibration_slope=0.4), NONE)["passed"]
    found = statements([small, teacher], small, labels, np.arange(600), seed=0, draws=200)
    assert not judged(found, Gate(calibration_slope=0.4), NONE)["passed"]  # the other way round


def test_a_model_of_which_nothing_is_judged_does_not_pass_and_hides_behind_no_other() -> None:
    unknown, known = rare(2)[1], {**rare(12)[1], "name": "other"}
    found = judged([unknown], Gate(calibration_slope=0.4), NONE)
    assert not found["passed"]
    assert found["reasons"] == ["small: nothing of it could be judged"]
    assert not judged([unknown, known], Gate(calibration_slope=0.4), NONE)["passed"]


def test_one_patient_alone_is_no_lack_of_errors() -> None:
    alone = interval(0.1, math.nan, math.nan)
    found = judged([record(slope_loss=alone)], Gate(calibration_slope=0.4), NONE)
    assert found["checks"][0]["passed"] is False
    assert found["not_judged"] == []


def test_a_share_varies_as_one_that_is_worse_by_the_margin_would() -> None:
    """0.95 observed, equal to the reference; worse by the margin would be 0.9, which varies by sqrt(0.09 / 0.0475) more."""
    one = record(difference={"auc": interval(0.0, -0.03, 0.03)}) | {"metrics": {"auc": interval(0.95, 0.92, 0.98)}}
    wide = 0.03 * math.sqrt(0.09 / 0.0475)
    assert judged([one], Gate(auc=0.05), NONE)["checks"][0]["worst"] == pytest.approx(wide)
    changed = record(flips=flips(0.0, 0.02, 0.05))
    wide = 0.02 + 0.03 * math.sqrt(0.09 / (0.02 * 0.98))
    assert judged([changed], Gate(flips=0.1), NONE)["checks"][0]["worst"] == pytest.approx(wide)


def test_a_perfect_share_has_no_variance_to_take_elsewhere() -> None:
    one = record(difference={"auc": interval(0.0, 0.0, 0.0)}) | {"metrics": {"auc": interval(1.0, 1.0, 1.0)}}
    assert judged([one], Gate(auc=0.05), NONE)["passed"]
    assert not judged([one], Gate(auc=0.05), {"auc": 0.06})["passed"]


@pytest.mark.parametrize("missing", [interval(math.nan, math.nan, math.nan), interval(0.0, math.nan, math.nan), None])
def test_what_has_no_interval_is_not_shown(missing: dict[str, Any] | None) -> None:
    found = judged([record(difference={} if missing is None else {"auc": missing})], Gate(auc=0.5), NONE)
    assert not found["passed"]
    assert found["reasons"] == ["onnx-int8: auc cannot be judged, the images do not define it"]


def test_every_contender_has_to_pass_and_the_reference_is_none() -> None:
    good, bad = (record(name, flips=flips(0, 0.1, high)) for name, high in (("good", 0.14), ("bad", 0.21)))
    reference = record("teacher", reference=True)
    assert judged([reference, good], Gate(flips=0.2), NONE)["passed"]
    found = judged([reference, good, bad], Gate(flips=0.2), NONE)
    assert found["reasons"] == ["bad: up to 24.7 % of decisions may change (margin 20 %)"]
    assert not judged([reference], Gate(flips=0.2), NONE)["passed"]  # nobody was judged


def test_no_change_in_few_images_is_no_proof() -> None:
    """0 of 30: the bootstrap says [0, 0], Clopper and Pearson that 11.6 % of others may change."""
    never = record(flips=flips(0, 0, 0))
    found = judged([never], Gate(flips=0.1), floors(None, np.arange(30), BINARY))
    assert found["checks"][0]["worst"] == pytest.approx(0.1157, abs=1e-4)
    assert not found["passed"]
    assert judged([never], Gate(flips=0.1), floors(None, np.arange(36), BINARY))["passed"]


def test_several_images_of_a_patient_are_one_observation() -> None:
    assert floors(None, np.repeat(np.arange(5), 20), BINARY)["flips"] == 1 - ALPHA ** (1 / 5)


def test_each_class_has_the_floor_of_its_own_patients() -> None:
    labels, groups = np.array([0] * 90 + [1] * 10), np.arange(100)
    found = floors(labels, groups, BINARY)
    ill, well = 1 - ALPHA ** (1 / 10), 1 - ALPHA ** (1 / 90)
    assert found["sensitivity"] == pytest.approx(ill)
    assert found["specificity"] == pytest.approx(well)
    assert found["balanced_accuracy"] == pytest.approx((ill + well) / 2)
    three = floors(np.array([0] * 90 + [2] * 10), groups, make_task("multiclass", ("a", "b", "c")))
    assert three["sensitivity"] == three["balanced_accuracy"] == pytest.approx((ill + well) / 2)  # b never occurs
    both = floors(np.stack([labels, np.zeros(100, int)], axis=1), groups, make_task("multilabel", ("a", "b")))
    assert both["sensitivity"] == pytest.approx(ill)
    assert both["specificity"] == pytest.approx((well + 1 - ALPHA ** (1 / 100)) / 2)


def test_one_class_only_leaves_the_other_unshown() -> None:
    assert floors(np.zeros(50, int), np.arange(50), BINARY)["sensitivity"] == 1


def statement(probability: Any, patients: int = 400) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A reference that is right but near the middle, and another model beside it."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, patients)
    levels = np.clip(128 + 60 * (2 * truth - 1) + random.normal(0, 45, patients), 0, 255).astype(int)
    images = Greys(levels.tolist(), truth)
    answers = answered(images, contender("teacher"), contender("small", probability))
    groups = np.arange(patients)
    return statements(answers, answers[0], images.labels, groups, seed=0, draws=300), floors(images.labels, groups, BINARY)


def test_an_honest_copy_passes_and_one_that_misses_more_is_refused_by_its_sensitivity() -> None:
    records, least = statement(lambda level: level)
    assert judged(records, DEFAULTS["binary"], least)["passed"]
    records, least = statement(lambda level: np.clip(level - 0.12, 0, 1))
    found = judged(records, DEFAULTS["binary"], least)
    assert not found["passed"]
    assert any("sensitivity may be worse by" in reason for reason in found["reasons"])
    assert not any("auc" in reason for reason in found["reasons"])  # the order is as good as before
    assert not any("specificity" in reason for reason in found["reasons"])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "embedding"])
def test_every_kind_of_task_has_defaults_that_data_with_labels_can_answer(kind: TaskKind) -> None:
    task = make_task(kind, () if kind == "embedding" else ("a", "b"))
    assert askable(DEFAULTS[kind], task, True, given=True) == DEFAULTS[kind]


def test_without_labels_the_defaults_judge_decisions_only_and_a_file_that_asks_for_more_is_refused() -> None:
    assert askable(DEFAULTS["binary"], BINARY, False, given=False) == Gate(flips=0.1)
    embedding = make_task("embedding")
    assert askable(DEFAULTS["embedding"], embedding, False, given=False) == Gate(mean_cosine=0.05)
    with pytest.raises(InputError, match="the gate judges auc, but the data have no labels; expected margins of flips"):
        askable(Gate(auc=0.01, flips=0.1), BINARY, False, given=True)
    with pytest.raises(InputError, match="judges flips, but the task is embedding"):
        askable(Gate(flips=0.1), embedding, True, given=True)
    with pytest.raises(InputError, match="the gate judges nothing"):
        askable(Gate(), BINARY, True, given=True)
