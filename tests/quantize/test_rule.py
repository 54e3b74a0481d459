"""Temperature and thresholds fitted to labels: what they are worth, and when there is nothing to fit them to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.models import LoadedModel
from edgefm.quantize import quantize
from edgefm.quantize.rule import CLASS, LARGEST, few, fitted
from edgefm.runtime.decide import decisions, probabilities
from edgefm.runtime.session import Session
from edgefm.spec.recipe import Recipe
from edgefm.spec.task import make_task
from edgefm.verify.calibration import forecasts

from ..verify.people import too_sure
from .conftest import DATA, TASK

BINARY = make_task("binary", ("no", "yes"))
THREE = make_task("multiclass", ("a", "b", "c"))
BOTH = make_task("multilabel", ("mass", "fluid"))


def test_a_model_that_is_three_times_too_sure_gets_the_temperature_three() -> None:
    logits, labels = too_sure(20_000, 3.0)
    found = fitted(logits, labels, BINARY)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    before, after = (forecasts(probabilities(logits, task), labels, task) for task in (BINARY, found))
    rows = np.arange(len(labels))
    assert after.ece(rows) < 0.02 < before.ece(rows)


def test_the_threshold_is_scikit_learns_best_youden_index() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = too_sure(500, 1.0, seed=3)
    logits[:, 1] += 1.5  # as after training on classes of equal weight
    found = fitted(logits, labels, BINARY)
    chance = probabilities(logits, found)[:, 1]
    wrong, right, _ = metrics.roc_curve(labels, chance, drop_intermediate=False)
    best = (right - wrong).max()
    decided = chance >= found.thresholds[0]
    assert decided[labels == 1].mean() - decided[labels == 0].mean() == pytest.approx(best)
    assert found.thresholds[0] not in chance  # between two probabilities: round-off moves nobody over it


def test_by_hand_of_equally_good_thresholds_the_nearest_to_the_one_before() -> None:
    margin = np.repeat([-3.0, -1.0, 1.0, 3.0], 10)
    logits = np.stack([-margin / 2, margin / 2], axis=1)
    # one mistake each way: cuts at 0, and beyond either neighbour, are worth 0.5, 0.5 and 0.5
    found = fitted(logits, np.repeat([0, 1, 0, 1], 10), BINARY)
    assert found.thresholds[0] == pytest.approx(0.5, abs=0.35)
    chance = probabilities(logits, found)[:, 1]
    assert (chance >= found.thresholds[0]).sum() in (10, 30)


def test_perfect_answers_keep_their_temperature_and_useless_ones_end_at_the_bound() -> None:
    logits, _ = too_sure(100, 1.0)
    truth = (logits[:, 1] > 0).astype(np.int64)
    before = msgspec.structs.replace(BINARY, temperature=1.5)
    perfect = fitted(logits, truth, before)
    assert perfect.temperature == 1.5
    assert (decisions(probabilities(logits, perfect), perfect) == truth).all()
    assert fitted(logits, 1 - truth, BINARY).temperature == pytest.approx(LARGEST, rel=0.01)


def test_of_many_classes_only_the_temperature_is_fitted() -> None:
    random = np.random.default_rng(0)
    z = random.normal(0, 1, (5_000, 3))
    labels = (probabilities(z, THREE).cumsum(axis=1) < random.random((5_000, 1))).sum(axis=1)
    found = fitted(0.5 * z, labels, THREE)
    assert found.temperature == pytest.approx(0.5, rel=0.1)
    assert found.thresholds == ()


def test_each_of_several_labels_gets_a_threshold_of_its_own() -> None:
    z = np.repeat([[-2.0, 5.0], [-1.0, 6.0], [1.0, 7.0], [2.0, 8.0]], 5, axis=0)
    labels = np.repeat([[0, 0], [0, 0], [1, 1], [1, 1]], 5, axis=0)
    found = fitted(z, labels, BOTH)
    assert (decisions(probabilities(z, found), found) == labels).all()
    assert found.thresholds[1] > found.thresholds[0]


@pytest.mark.parametrize("positives", [1, CLASS - 1, CLASS])
@pytest.mark.parametrize("turned", [False, True])
def test_a_threshold_takes_ten_images_of_each_class_and_else_decisions_stay(positives: int, turned: bool) -> None:
    logits, labels = too_sure(400, 3.0, seed=1)
    yes, no = (np.flatnonzero(labels == (each != turned)) for each in (1, 0))
    rows = np.concatenate([yes[:positives], no])
    logits, labels = logits[rows], labels[rows]
    before = msgspec.structs.replace(BINARY, thresholds=(0.3,))
    found = fitted(logits, labels, before)
    decided, then = (decisions(probabilities(logits, task), task) for task in (found, before))
    assert found.temperature != 1
    if positives < CLASS:
        assert few(labels, before) == ("yes",)
        assert (decided == then).all()
        wanted = probabilities(np.array([[0.0, np.log(0.3 / 0.7)]]), found)[0, 1]  # what was 0.3
        assert found.thresholds[0] == pytest.approx(wanted)
    else:
        assert few(labels, before) == ()
        assert (decided != then).any()


def test_of_several_labels_only_the_rare_ones_are_decided_as_before() -> None:
    z = np.linspace(-2, 2, 80)[:, None] + np.array([1.5, 1.5])
    labels = (z > 1.5).astype(int)
    labels[:77, 1] = 0
    found = fitted(z, labels, BOTH)
    assert few(labels, BOTH) == ("fluid",)
    assert found.thresholds[1] == 0.5
    assert found.thresholds[0] > 0.51  # where the one label begins
    assert few(np.arange(40) % 3, THREE) == ()  # it has no thresholds


def test_thresholds_at_the_ends_stay_there() -> None:
    logits, labels = too_sure(100, 3.0)
    labels[:] = 0
    labels[:3] = 1
    for end in (0.0, 1.0):
        assert fitted(logits, labels, msgspec.structs.replace(BINARY, thresholds=(end,))).thresholds == (end,)


@pytest.mark.parametrize(("labels", "complaint"), [([0] * 40, "shows"), ([1] * 40, "shows")])
def test_one_class_alone_fits_nothing(labels: list[int], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        fitted(np.zeros((40, 2)), np.array(labels), BINARY)


def calibrating(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, quantize=msgspec.structs.replace(recipe.quantize, calibrate=True))


def test_the_bundle_decides_by_the_fitted_rule(tmp_path: Path, model: LoadedModel, lenient: Recipe) -> None:
    lines: list[str] = []
    out = quantize(model, "phantom:opacity?n=600&size=64", tmp_path / "a.efm", recipe=calibrating(lenient), report=lines.append)
    with open_bundle(out) as opened:
        task = opened.manifest.task
    assert task.temperature != 1
    assert any("fitted to the labels of" in line and f"{task.temperature:.3g}" in line for line in lines)
    with Session(out, variant="onnx-fp32") as session:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        logits = session.run_prepared(session.prepare(pixels)[None])["logits"]
        assert session.predict(pixels).probabilities["opacity"] == pytest.approx(float(probabilities(logits, task)[0, 1]))


def test_too_few_images_no_labels_and_an_embedding_are_refused(
    tmp_path: Path, model: LoadedModel, lenient: Recipe, unlabelled: Path
) -> None:
    recipe, out = calibrating(lenient), tmp_path / "a.efm"
    with pytest.raises(InputError, match=r"labelled images of the 'calibrate' split.*at least 30"):
        quantize(model, DATA, out, recipe=recipe)
    with pytest.raises(InputError, match="has no labels"):
        quantize(model, unlabelled, out, recipe=recipe)
    with pytest.raises(InputError, match="an embedding decides nothing"):
        quantize(replace(model, task=make_task("embedding")), unlabelled, out, recipe=recipe)
    assert not out.exists()
    assert TASK.temperature == 1
