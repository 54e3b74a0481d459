"""The probe is scikit-learn's ridge, CKA the formula with whole Gram matrices, and patients are never on both sides."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.verify.embeddings import cka_interval, linear_cka, probe_right
from edgefm.verify.metrics import knn_right

RANDOM = np.random.default_rng(0)


def hsic_by_hand(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """HSIC_1 of Song et al. (2012), equation 5, with the matrices that `embeddings.py` never makes."""
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    total = np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    return float(total / (n * (n - 3)))


def cka_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    k, l = x @ x.T, y @ y.T  # noqa: E741
    return hsic_by_hand(k, l) / math.sqrt(hsic_by_hand(k, k) * hsic_by_hand(l, l))


def related(count: int, width: int = 6, other: int = 9, noise: float = 1.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, width))
    return x, x @ random.normal(size=(width, other)) + noise * random.normal(size=(count, other))


@pytest.mark.parametrize("count", [4, 5, 37])
def test_cka_is_the_formula_with_whole_gram_matrices(count: int) -> None:
    x, y = related(count)
    assert linear_cka(x, y) == pytest.approx(cka_by_hand(x, y))
    assert linear_cka(y, x) == pytest.approx(linear_cka(x, y))


def test_cka_does_not_see_rotation_scale_and_shift_even_a_shift_far_away() -> None:
    x, _ = related(40, width=8)
    turned = 300 + 0.01 * x @ np.linalg.qr(RANDOM.normal(size=(8, 8)))[0]
    assert linear_cka(x, turned) == pytest.approx(1, abs=1e-6)
    assert linear_cka(x, x) == pytest.approx(1)


def test_cka_of_nothing_in_common_is_about_0_with_more_features_than_images() -> None:
    found = [linear_cka(RANDOM.normal(size=(30, 200)), RANDOM.normal(size=(30, 300))) for _ in range(40)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40)
    x, y = RANDOM.normal(size=(2, 30, 200))
    k, l = ((each - each.mean(axis=0)) @ (each - each.mean(axis=0)).T for each in (x, y))  # noqa: E741
    assert (k * l).sum() / np.sqrt((k**2).sum() * (l**2).sum()) > 0.8  # what the biased one would say


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.ones((9, 3)), RANDOM.normal(size=(9, 3))),
        (np.full((9, 3), np.float32(0.1)) + np.float32(1e-8), RANDOM.normal(size=(9, 3))),
        (RANDOM.normal(size=(3, 3)), RANDOM.normal(size=(3, 3))),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
    ids=["a constant", "round-off", "three images", "none"],
)
def test_cka_of_what_has_no_variation_is_undefined(one: np.ndarray, other: np.ndarray) -> None:
    assert math.isnan(linear_cka(one, other))
    interval = cka_interval(one, other, np.arange(len(one)))
    assert math.isnan(interval.value)
    assert math.isnan(interval.low)


def test_embeddings_of_other_images_are_an_error() -> None:
    with pytest.raises(InputError, match="embeddings of 5 and 6 images"):
        linear_cka(np.zeros((5, 2)), np.zeros((6, 2)))


def test_the_interval_is_the_jackknife_over_patients() -> None:
    x, y = related(24)
    groups = np.repeat(list("abcdefgh"), 3)
    found = cka_interval(x, y, groups)
    without = np.array([cka_by_hand(x[groups != who], y[groups != who]) for who in "abcdefgh"])
    error = math.sqrt(7 / 8 * ((without - without.mean()) ** 2).sum())
    assert found.value == pytest.approx(cka_by_hand(x, y))
    assert (found.low, found.high) == pytest.approx((found.value - 1.959964 * error, min(1, found.value + 1.959964 * error)))
    assert math.isnan(cka_interval(x, y, np.zeros(24)).low)
    assert cka_interval(x, y, np.arange(24) // 8).undefined == 0
    assert math.isnan(cka_interval(x[:5], y[:5], np.array([0, 0, 1, 1, 1])).low)  # without a block too few are left


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    mixing = np.random.default_rng(1).normal(size=(6, 9))

    def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        x = random.normal(size=(count, 6))
        return x, x @ mixing + 4 * random.normal(size=(count, 9))

    truth = linear_cka(*drawn(200_000, 0))
    intervals = [cka_interval(*drawn(150, seed), np.arange(150)) for seed in range(1, 201)]
    assert 0.2 < truth < 0.8
    assert 178 <= sum(each.low <= truth <= each.high for each in intervals) <= 199  # 89 % to 99.5 %


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_is_the_ridge_classifier_of_scikit_learn_on_the_same_folds(classes: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    from sklearn.preprocessing import StandardScaler

    labels = RANDOM.integers(0, classes, 90)
    x = RANDOM.normal(size=(90, 12)) * 5 + 3
    x[:, 0] += 4 * labels
    groups = np.arange(90) // 2
    right = probe_right(x, labels, groups, seed=3)
    fold = (np.random.default_rng(3).permutation(45) % 5)[groups]
    for held in range(5):
        train = fold != held
        scaler = StandardScaler().fit(x[train])
        model = linear.RidgeClassifier(alpha=0.1 * train.sum()).fit(scaler.transform(x[train]), labels[train])
        wanted = model.predict(scaler.transform(x[~train])) == labels[~train]
        assert (right[~train] == wanted).all()
    assert 1 / classes < right.mean() < 1


def test_a_patient_is_never_learned_from_and_judged_on() -> None:
    who = np.repeat(np.arange(20), 4)
    labels = RANDOM.integers(0, 2, 20)[who]  # of the patient, by chance
    x = np.eye(20)[who] * 5 + 0.01 * RANDOM.normal(size=(80, 20))  # tells patients apart and nothing else
    assert probe_right(x, labels, np.arange(80)).mean() > 0.9  # all four images of a patient may be dealt into one fold
    assert knn_right(x, labels).all()
    assert probe_right(x, labels, who).mean() < 0.8
    assert knn_right(x, labels, groups=who).mean() < 0.8


def test_a_class_of_one_patient_is_never_right_and_a_feature_that_never_varies_does_no_harm() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2])
    x = np.concatenate([np.full((21, 1), 7.0), labels[:, None] * 10 + RANDOM.normal(size=(21, 1))], axis=1)
    right = probe_right(x, labels, np.arange(21))
    assert not right[20]
    assert right[:20].all()


def test_labels_of_several_at_once_count_by_their_combination() -> None:
    labels = np.array([[0, 0], [0, 1], [1, 1]] * 8)
    x = labels @ RANDOM.normal(size=(2, 5)) + 0.01 * RANDOM.normal(size=(24, 5))
    assert probe_right(x, labels, np.arange(24)).all()


def test_one_patient_leaves_nobody_to_judge_on() -> None:
    with pytest.raises(InputError, match="there is 1 patient; expected at least two"):
        probe_right(np.zeros((4, 2)), np.zeros(4), np.zeros(4))


def test_neighbours_are_of_other_patients_however_few_they_are() -> None:
    x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    labels, groups = np.array([0, 0, 1, 1]), np.array(["a", "a", "b", "c"])
    assert knn_right(x, labels, groups=groups).tolist() == [False, False, True, True]
