"""Calibration: worked by hand, equal to scikit-learn's and scipy's, and the same whatever the order of the images."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.runtime.decide import decisions
from edgefm.spec.task import Task, make_task
from edgefm.verify.calibration import BrierParts, brier_parts, ece, forecasts, reliability, wilson
from edgefm.verify.metrics import task_metrics

from .test_scores import TASKS, drawn

BINARY, THREE, LABELS = make_task("binary", ("normal", "ill")), TASKS["multiclass"], TASKS["multilabel"]
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
BOTH = pytest.mark.parametrize("adaptive", [False, True], ids=["equal width", "equal mass"])


def columns(positive: list[float] | np.ndarray) -> np.ndarray:
    positive = np.asarray(positive, dtype=np.float64)
    return np.stack([1 - positive, positive], axis=1)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits)))


def calibrated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that means what it says, and labels drawn with its probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, count)
    return logits, (random.random(count) < sigmoid(logits)).astype(np.int64)


def place(value: float, values: np.ndarray, bins: int, adaptive: bool) -> int:
    """The bin of a value, as the module's header says it."""
    if not adaptive:
        return max(0, int((np.linspace(0, 1, bins + 1) < value).sum()) - 1)
    below, same = int((values < value).sum()), int((values == value).sum())
    return math.floor((below + Fraction(same, 2)) / len(values) * bins)


def test_an_example_worked_by_hand() -> None:
    probabilities, labels = columns([0.125, 0.25, 0.375, 0.875]), np.array([0, 1, 0, 1])
    found = reliability(probabilities, labels, BINARY, bins=2)
    assert found.images.tolist() == [[3, 1]]
    assert found.confidence.tolist() == [[0.25, 0.875]]
    assert found.right.tolist() == [[1 / 3, 1.0]]
    assert ece(probabilities, labels, BINARY, bins=2) == pytest.approx((3 * (1 / 3 - 0.25) + 1 * 0.125) / 4)
    # in bins of two images: said 0.1875 and 0.625, came one half in both
    assert ece(probabilities, labels, BINARY, bins=2, adaptive=True) == (2 * 0.3125 + 2 * 0.125) / 4
    # a bin of equal width holds its upper end, and the first one 0 too
    assert reliability(columns([0.0, 0.5, 0.625, 1.0]), labels, BINARY, bins=2).confidence.tolist() == [[0.25, 0.8125]]


def test_a_probability_that_many_share_goes_to_one_bin_as_a_whole() -> None:
    def images(positive: list[float], bins: int) -> list[int]:
        labels = np.arange(len(positive)) % 2
        return reliability(columns(positive), labels, BINARY, bins=bins, adaptive=True).images[0].tolist()

    assert images([0.1, 0.2, 0.3, 0.4], 2) == [2, 2]
    assert images([0.2, 0.2, 0.2, 0.8], 2) == [3, 1]
    assert images([0.1, 0.6, 0.6, 0.6], 2) == [1, 3]
    assert images([0.1, 0.4, 0.4, 0.9], 2) == [1, 3]  # the middle of the two is the border, so the upper bin has them
    assert images([0.3] * 5, 3) == [0, 5, 0]
    assert images([0.1, 0.2], 3) == [1, 0, 1]


def test_several_classes_are_judged_by_the_confidence_of_the_answer() -> None:
    probabilities = np.array([[0.75, 0.25, 0.0], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5], [0.5, 0.5, 0.0]])
    labels = np.array([0, 0, 2, 1])  # right, wrong, right, and wrong: the first of equals is the answer
    found = reliability(probabilities, labels, THREE, bins=2)
    assert found.confidence.tolist() == [[0.5, 0.75]]
    assert found.right.tolist() == [[0.5, 0.5]]
    assert ece(probabilities, labels, THREE, bins=2) == (2 * 0 + 2 * 0.25) / 4


@BOTH
def test_several_labels_are_judged_each_by_itself_and_averaged(adaptive: bool) -> None:
    probabilities, labels = drawn(LABELS, 80, 0)
    labels[:, 1] = 0  # a label that never occurs has a calibration too: it should be given 0
    each = [ece(columns(probabilities[:, k]), labels[:, k], BINARY, adaptive=adaptive) for k in range(3)]
    assert ece(probabilities, labels, LABELS, adaptive=adaptive) == pytest.approx(np.mean(each), abs=1e-15)
    points = reliability(probabilities, labels, LABELS, adaptive=adaptive)
    for k in range(3):
        alone = reliability(columns(probabilities[:, k]), labels[:, k], BINARY, adaptive=adaptive)
        for found, wanted in zip(points, alone):
            np.testing.assert_array_equal(found[k], wanted[0])


def test_binary_is_judged_by_the_positive_class_and_not_by_the_answer() -> None:
    probabilities, labels = columns([0.25] * 4), np.array([0, 0, 0, 1])
    assert ece(probabilities, labels, BINARY) == 0.0
    assert ece(probabilities[:, ::-1], labels, BINARY) == 0.5
    assert ece(probabilities, labels, Task(kind="binary", labels=BINARY.labels, thresholds=(0.2,))) == 0.0


@EACH
@BOTH
@pytest.mark.parametrize("bins", [1, 2, 7, 15])
def test_ece_is_the_sum_of_its_definition(task: Task, adaptive: bool, bins: int) -> None:
    probabilities, labels = drawn(task, 97, bins)
    said, came = probabilities, labels == 1
    if task.kind == "multiclass":
        said, came = probabilities.max(axis=1)[:, None], (probabilities.argmax(axis=1) == labels)[:, None]
    elif task.kind == "binary":
        said, came = probabilities[:, 1:], (labels == 1)[:, None]
    errors = []
    for p, y in zip(said.T, came.T):
        into = np.array([place(value, p, bins, adaptive) for value in p])
        errors.append(sum(abs((y[into == b] - p[into == b]).mean()) * (into == b).mean() for b in range(bins) if b in into))
    assert ece(probabilities, labels, task, adaptive=adaptive, bins=bins) == pytest.approx(np.mean(errors), abs=1e-14)


@BOTH
@pytest.mark.parametrize("bins", [2, 5, 10, 20])
def test_the_diagram_equals_scikit_learns_calibration_curve(bins: int, adaptive: bool) -> None:
    sklearn = pytest.importorskip("sklearn.calibration")
    logits, labels = calibrated(400, bins)
    positive = sigmoid(2 * logits)
    if not adaptive:  # with ties, with both ends, and with bins that stay empty
        positive = np.where((positive > 0.4) & (positive < 0.5), 0.35, np.round(positive, 2))
    strategy = "quantile" if adaptive else "uniform"
    right, confidence = sklearn.calibration_curve(labels, positive, n_bins=bins, strategy=strategy)
    found = reliability(columns(positive), labels, BINARY, bins=bins, adaptive=adaptive)
    filled = found.images[0] > 0
    assert found.images.sum() == 400
    assert found.right[0, filled] == pytest.approx(right, abs=1e-14)
    assert found.confidence[0, filled] == pytest.approx(confidence, abs=1e-14)
    assert np.isnan(np.stack(found[:4])[:, 0, ~filled]).all()
    gaps = np.abs(right - confidence) @ found.images[0, filled] / 400
    assert ece(columns(positive), labels, BINARY, bins=bins, adaptive=adaptive) == pytest.approx(gaps, abs=1e-14)
    low, high = wilson(found.right[0] * found.images[0], found.images[0])
    np.testing.assert_allclose((found.low[0], found.high[0]), (low, high), atol=1e-14)


def test_brier_parts_worked_by_hand() -> None:
    found = brier_parts(columns([0.1, 0.3, 0.6, 0.8]), np.array([0, 0, 0, 1]), BINARY, bins=2)
    # said 0.2 and 0.7, came 0 and 1/2; of all images 1/4
    assert found == BrierParts(
        reliability=pytest.approx((2 * 0.2**2 + 2 * 0.2**2) / 4),
        resolution=pytest.approx((2 * 0.25**2 + 2 * 0.25**2) / 4),
        uncertainty=pytest.approx(0.25 * 0.75),
        within_variance=pytest.approx(4 * 0.1**2 / 4),
        within_covariance=pytest.approx(2 * (-0.5 * -0.1 + 0.5 * 0.1) / 4),
    )
    assert found.generalized_resolution == pytest.approx(0.0625 - 0.01 + 0.05)
    assert found.brier == pytest.approx((0.1**2 + 0.3**2 + 0.6**2 + 0.2**2) / 4)


@EACH
@pytest.mark.parametrize("bins", [1, 3, 15])
@pytest.mark.parametrize("count", [1, 2, 151])
def test_brier_parts_add_up_to_the_brier_score(task: Task, bins: int, count: int) -> None:
    probabilities, labels = drawn(task, count, bins)
    found = brier_parts(probabilities, labels, task, bins=bins)
    assert found.brier == pytest.approx(task_metrics(probabilities, labels, task)["brier"], abs=1e-14)
    if task.kind == "binary":
        sklearn = pytest.importorskip("sklearn.metrics")
        assert found.brier == pytest.approx(sklearn.brier_score_loss(labels, probabilities[:, 1]), abs=1e-14)


def test_without_spread_inside_the_bins_murphys_three_parts_are_the_brier_score() -> None:
    positive = np.resize([0.1, 0.3, 0.5, 0.9], 200)
    labels = np.resize([0, 0, 1, 1, 1, 0, 0], 200)
    found = brier_parts(columns(positive), labels, BINARY, bins=10)
    assert found[3:] == pytest.approx((0, 0), abs=1e-15)
    murphy = found.reliability - found.resolution + found.uncertainty
    assert murphy == pytest.approx(((positive - labels) ** 2).mean(), abs=1e-14)


@BOTH
def test_a_calibrated_model_is_near_0(adaptive: bool) -> None:
    logits, labels = calibrated(200_000, 0)
    assert ece(columns(sigmoid(logits)), labels, BINARY, adaptive=adaptive) < 0.005
    assert brier_parts(columns(sigmoid(logits)), labels, BINARY).reliability < 1e-4
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(3), 200_000)
    labels = (random.random((200_000, 1)) > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
    assert ece(probabilities, labels, THREE, adaptive=adaptive) < 0.005


@BOTH
def test_sharpening_by_a_factor_of_two_is_seen_though_every_decision_stays(adaptive: bool) -> None:
    for seed in range(20):
        logits, labels = calibrated(1200, seed)
        honest, sharp = columns(sigmoid(logits)), columns(sigmoid(2 * logits))
        assert (decisions(honest, BINARY) == decisions(sharp, BINARY)).all()
        assert ece(sharp, labels, BINARY, adaptive=adaptive) > ece(honest, labels, BINARY, adaptive=adaptive) + 0.02
        before, after = (brier_parts(each, labels, BINARY) for each in (honest, sharp))
        assert after.reliability > before.reliability
        assert after.uncertainty == before.uncertainty


def test_the_draws_of_a_bootstrap_lie_above_the_ece_of_a_calibrated_model() -> None:
    found, again = [], []
    for seed in range(20):
        logits, labels = calibrated(1200, seed)
        said, random = forecasts(columns(sigmoid(logits)), labels, BINARY), np.random.default_rng(seed)
        found.append(said.ece(np.arange(1200)))
        again.extend(said.ece(random.integers(0, 1200, 1200)) for _ in range(20))
    assert np.mean(found) == pytest.approx(0.034, abs=0.004)
    assert np.mean(again) == pytest.approx(0.048, abs=0.004)


@EACH
@BOTH
def test_a_draw_equals_its_images_and_their_order_changes_not_one_bit(task: Task, adaptive: bool) -> None:
    random, (probabilities, labels) = np.random.default_rng(0), drawn(task, 101, 1)
    said = forecasts(probabilities, labels, task)
    for size in (101, 101, 101, 7, 1):
        rows = random.integers(0, 101, size)
        order = random.permutation(rows)
        images = probabilities[order], labels[order], task
        assert said.ece(rows, adaptive=adaptive) == ece(*images, adaptive=adaptive)
        for found, wanted in zip(said.reliability(rows, adaptive=adaptive), reliability(*images, adaptive=adaptive)):
            np.testing.assert_array_equal(found, wanted)
        assert brier_parts(*images) == brier_parts(probabilities[rows], labels[rows], task)
        if task.kind != "multiclass":  # whose Brier score is of every class, not of the answer
            assert said.brier_parts(rows) == brier_parts(*images)


@BOTH
@pytest.mark.parametrize("positive", [[0.75], [0.125, 0.5, 0.625, 0.75]], ids=["one image", "four images"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_has_a_calibration_and_no_uncertainty(label: int, positive: list[float], adaptive: bool) -> None:
    probabilities, labels = columns(positive), np.full(len(positive), label)
    assert ece(probabilities, labels, BINARY, adaptive=adaptive) == abs(label - np.mean(positive))
    found = brier_parts(probabilities, labels, BINARY, bins=2)
    assert found.uncertainty == found.resolution == found.within_covariance == 0
    assert found.brier == pytest.approx(((np.array(positive) - label) ** 2).mean(), abs=1e-15)


@BOTH
def test_equal_probabilities_are_one_bin(adaptive: bool) -> None:
    probabilities, labels = columns([0.375] * 8), np.array([1, 1, 1, 1, 0, 0, 0, 0])
    assert ece(probabilities, labels, BINARY, adaptive=adaptive) == 0.125
    assert sorted(reliability(probabilities, labels, BINARY, adaptive=adaptive).images[0].tolist()) == [0] * 14 + [8]
    assert brier_parts(probabilities, labels, BINARY) == BrierParts(0.015625, 0.0, 0.25, 0.0, 0.0)


@BOTH
def test_certain_answers_are_perfect_or_as_wrong_as_can_be(adaptive: bool) -> None:
    labels = np.array([0, 1, 1, 0, 1])
    assert ece(columns(labels), labels, BINARY, adaptive=adaptive) == 0.0
    assert ece(columns(1 - labels), labels, BINARY, adaptive=adaptive) == 1.0
    assert brier_parts(columns(labels), labels, BINARY).reliability == 0.0
    assert brier_parts(columns(1 - labels), labels, BINARY).reliability == 1.0


@EACH
@BOTH
def test_no_images_at_all_give_nan_and_no_warning(task: Task, adaptive: bool) -> None:
    probabilities, labels = drawn(task, 5, 0)
    width = 3 if task is LABELS else 1
    for said in (forecasts(probabilities, labels, task), forecasts(probabilities[:0], labels[:0], task)):
        none = np.empty(0, np.int64)
        assert math.isnan(said.ece(none, adaptive=adaptive))
        assert np.isnan(said.brier_parts(none)).all()
        found = said.reliability(none, adaptive=adaptive, bins=4)
        assert found.images.tolist() == [[0] * 4] * width
        assert np.isnan(np.stack(found[:4])).all()


@pytest.mark.parametrize("number", [ece, reliability, brier_parts], ids=lambda number: number.__name__)
def test_what_is_no_probability_is_refused(number) -> None:  # type: ignore[no-untyped-def]
    for bad, why in ((np.nan, "not finite"), (np.inf, "not finite"), (1.1, "outside 0 to 1")):
        with pytest.raises(InputError, match=why):
            number(columns([0.2, bad]), np.array([0, 1]), BINARY)
    for labels, why in ((np.array([0, 1, 1]), "shape"), (np.array([0, 2]), "labels from 0 to 2")):
        with pytest.raises(InputError, match=why):
            number(columns([0.2, 0.7]), labels, BINARY)
    with pytest.raises(InputError, match="embedding"):
        number(columns([0.2, 0.7]), np.array([0, 1]), make_task("embedding"))


def test_wilsons_interval_worked_by_hand_and_it_holds_the_share_itself() -> None:
    z2 = 3.8414588206941227  # 1.96 squared: for half of 10 the interval is 1/2 -+ z / 2 / sqrt(10 + z^2)
    half = math.sqrt(z2 / (10 + z2)) / 2
    low, high = wilson(np.array([5, 0, 10, 0]), np.array([10, 10, 10, 0]))
    assert low == pytest.approx([0.5 - half, 0, 10 / (10 + z2), np.nan], nan_ok=True)
    assert high == pytest.approx([0.5 + half, z2 / (10 + z2), 1, np.nan], nan_ok=True)
    for count in range(1, 200):
        right = np.arange(count + 1)
        low, high = wilson(right, np.full(count + 1, count))
        assert ((low >= 0) & (low <= right / count) & (right / count <= high) & (high <= 1)).all()


@pytest.mark.parametrize("count", [1, 2, 9, 1000])
def test_wilsons_interval_equals_scipys(count: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    right = np.unique(np.linspace(0, count, 12).astype(np.int64))
    wanted = [stats.binomtest(int(x), count).proportion_ci(0.95, method="wilson") for x in right]
    assert np.stack(wilson(right, np.full(len(right), count)), axis=1) == pytest.approx(np.array(wanted), abs=1e-12)
