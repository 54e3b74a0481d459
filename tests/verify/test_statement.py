"""Metrics, differences and flips of models whose answers are known, with intervals that treat a patient as one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgefm.spec.task import Task, make_task
from edgefm.verify.answers import Answers
from edgefm.verify.metrics import task_metrics
from edgefm.verify.statement import between, difference, statements

from .people import BINARY, Greys, answered, contender

EMBEDDING = make_task("embedding")


def stated(images: Greys, answers: list[Answers], groups: np.ndarray | None = None) -> list[dict[str, Any]]:
    by_image = np.arange(len(images)) if groups is None else groups
    return statements(answers, answers[0], images.labels, by_image, seed=0, draws=200)


def test_one_image_has_values_and_no_intervals() -> None:
    images = Greys([200], [1])
    (only,) = stated(images, answered(images, contender("one")))
    assert only["metrics"]["sensitivity"]["value"] == 1.0
    assert math.isnan(only["metrics"]["sensitivity"]["low"])
    assert math.isnan(only["metrics"]["auc"]["value"])


def test_one_patient_has_values_and_no_intervals() -> None:
    images = Greys([10, 200, 90, 160], [0, 1, 0, 1])
    one, other = stated(images, answered(images, contender("one"), contender("other", lambda level: level / 2)), np.zeros(4))
    assert one["metrics"]["auc"]["value"] == 1.0
    assert other["flips"]["count"] == 2
    for interval in (one["metrics"]["auc"], other["difference"]["sensitivity"], other["flips"]["share"]):
        assert math.isnan(interval["low"])
        assert math.isnan(interval["high"])


def test_one_class_only_leaves_what_it_does_not_define_undefined() -> None:
    images = Greys(list(range(100, 160)), [1] * 60)
    one, other = stated(images, answered(images, contender("one"), contender("other", lambda level: level + 0.02)))
    for record in (one["metrics"], other["metrics"], other["difference"]):
        assert {name for name, each in record.items() if math.isnan(each["value"])} == {
            "auc", "specificity", "balanced_accuracy",
        }  # fmt: skip
    assert other["difference"]["sensitivity"]["value"] == pytest.approx(5 / 60)  # 123 to 127 of 255 are now at 0.5 or above
    assert 0 < other["difference"]["sensitivity"]["low"] < 5 / 60 < other["difference"]["sensitivity"]["high"]


def test_without_labels_there_are_flips_and_the_cosine_only() -> None:
    images = Greys([10, 120, 200])
    one, other = stated(images, answered(images, contender("one"), contender("other", lambda level: level + 0.1)))
    assert one["metrics"] == other["metrics"] == other["difference"] == other["labels"] == {}
    assert one["flips"] is one["mean_cosine"] is one["largest_difference"] is None
    assert (other["flips"]["count"], other["flips"]["of"]) == (1, 3)
    assert other["flips"]["share"]["value"] == pytest.approx(1 / 3)
    assert 0.9 < other["mean_cosine"]["value"] < 1
    assert other["largest_difference"] == pytest.approx(0.1, abs=1e-5)


def test_with_labels_everything_equals_the_metrics_worked_out_apart() -> None:
    random = np.random.default_rng(0)
    levels, labels = random.integers(0, 256, 80), random.integers(0, 2, 80)
    images = Greys(levels.tolist(), labels)
    answers = answered(images, contender("one"), contender("two", lambda level: level**2))
    one, two = stated(images, answers)
    for record, answer in ((one, answers[0]), (two, answers[1])):
        assert answer.probabilities is not None
        wanted = task_metrics(answer.probabilities, labels, BINARY)
        assert {name: each["value"] for name, each in record["metrics"].items()} == pytest.approx(wanted)
        assert all(each["low"] <= each["value"] <= each["high"] for each in record["metrics"].values())
    for name, each in two["difference"].items():
        assert each["value"] == pytest.approx(two["metrics"][name]["value"] - one["metrics"][name]["value"])
    assert one["reference"]
    assert not two["reference"]
    assert one["difference"] == {}
    assert two["difference"]["auc"]["low"] == two["difference"]["auc"]["high"] == 0  # the order of the answers is the same
    flipped = (levels / 255 >= 0.5) != ((levels / 255) ** 2 >= 0.5)
    assert two["flips"]["count"] == flipped.sum()


def test_each_model_decides_by_its_own_threshold_and_temperature() -> None:
    images = Greys([100, 150], [0, 1])
    low = Task(kind="binary", labels=BINARY.labels, thresholds=(0.3,))
    one, two = stated(images, answered(images, contender("one"), contender("two", task=low)))
    assert one["metrics"]["specificity"]["value"] == 1.0
    assert two["metrics"]["specificity"]["value"] == 0.0
    assert two["flips"]["count"] == 1
    assert two["largest_difference"] == 0


def test_patients_make_wider_intervals_than_images_by_themselves() -> None:
    random = np.random.default_rng(1)
    ill = random.integers(0, 2, 40)
    level = np.clip(110 + 60 * ill + random.integers(-70, 70, 40), 0, 255)
    images = Greys(np.repeat(level, 6).tolist(), np.repeat(ill, 6))
    answers = answered(images, contender("one"))
    widths = []
    for groups in (np.arange(240), np.repeat([f"P{n}" for n in range(40)], 6)):
        interval = stated(images, answers, groups)[0]["metrics"]["auc"]
        widths.append(interval["high"] - interval["low"])
    assert widths[1] > 1.8 * widths[0]


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_each_label_of_several_is_stated_and_one_that_never_occurs_is_undefined(kind: str) -> None:
    task = make_task(kind, ("a", "b", "never"))  # type: ignore[arg-type]
    random = np.random.default_rng(2)
    z = random.normal(size=(50, 3)).astype(np.float32)
    if kind == "multiclass":
        labels = random.integers(0, 2, 50)
    else:
        labels = (random.random((50, 3)) < [0.5, 0.3, 0]).astype(np.uint8)
    images = Greys(list(range(50)), labels)
    found = []
    for name, extra in (("one", 0.0), ("two", 0.5)):
        each = contender(name, task=task)
        predict = lambda batch, extra=extra: {"logits": z[[round(float(batch.max()) * 255)]] + [extra, 0, 0]}  # noqa: E731
        found.append(type(each)(name=name, precision="fp32", task=task, preprocess=each.preprocess, predict=predict))
    one, two = stated(images, answered(images, *found))
    assert list(one["labels"]) == ["a", "b", "never"]
    assert math.isnan(one["labels"]["never"]["auc"]["value"])
    assert math.isnan(one["labels"]["never"]["sensitivity"]["value"])
    assert not math.isnan(one["metrics"]["auc"]["value"])
    known = [one["labels"][label]["sensitivity"]["value"] for label in ("a", "b")]
    assert one["metrics"]["sensitivity"]["value"] == pytest.approx(np.mean(known))
    assert two["flips"]["count"] > 0


def test_embeddings_have_the_cosine_and_the_neighbours() -> None:
    images = Greys([*range(30), *range(200, 230)], [0] * 30 + [1] * 30)
    one, two = stated(
        images,
        answered(
            images,
            contender("one", task=EMBEDDING),
            contender("two", lambda level: -level, task=EMBEDDING),
            embeddings=True,
        ),
    )
    assert one["metrics"]["knn_accuracy"]["value"] == 1.0
    assert one["mean_cosine"] is None
    assert two["metrics"]["knn_accuracy"]["value"] == 1.0
    assert two["difference"]["knn_accuracy"]["value"] == 0.0
    assert two["flips"] is None
    assert two["mean_cosine"]["low"] < two["mean_cosine"]["value"] < two["mean_cosine"]["high"] < 1
    assert two["largest_difference"] > 1


def test_pairs_in_fp32_are_held_to_round_off_and_others_are_only_told() -> None:
    images = Greys([10, 127, 200])
    near = contender("near", lambda level: level + 5e-4)
    far = contender("far", lambda level: level + 2e-3)
    small = contender("small", lambda level: level + 0.2, precision="int8")
    other = contender("other small", lambda level: level + 0.1, precision="int8")
    answers = answered(images, contender("one"), near, far, small, other)
    pairs = {(pair["one"], pair["other"]): pair for pair in between(answers)}
    assert len(pairs) == 10
    assert pairs["small", "other small"]["passed"]
    assert pairs["one", "near"]["passed"]
    assert not pairs["one", "far"]["passed"]
    assert pairs["one", "far"]["exact"]
    assert pairs["one", "far"]["flips"] == 1  # 127 of 255 and 0.002 more are on two sides of 0.5
    assert pairs["one", "near"]["flips"] == 0
    assert pairs["one", "small"]["passed"]
    assert not pairs["one", "small"]["exact"]
    assert pairs["one", "small"]["largest_difference"] == pytest.approx(0.2, abs=1e-4)


def test_embeddings_of_another_width_cannot_be_subtracted() -> None:
    images = Greys([10, 127])
    one, two = answered(images, contender("one", task=EMBEDDING), contender("two", task=EMBEDDING), embeddings=True)
    assert difference(one, two) == 0
    assert two.embedding is not None
    wide = type(two)(
        contender=two.contender, probabilities=None, decided=None, embedding=np.ones((2, 5), np.float32), cosine=None
    )
    assert difference(one, wide) is None
    assert stated(images, [one, wide])[1]["mean_cosine"] is None


def test_an_embedding_has_a_probe_and_a_likeness_to_the_reference_of_whatever_width() -> None:
    levels = list(range(20, 240, 11))
    images = Greys(levels, [int(level > 130) for level in levels])
    answers = answered(
        images,
        contender("one", task=EMBEDDING),
        contender("same", lambda level: 0.5 * level + 0.2, task=EMBEDDING),
        contender("flat", lambda level: 0 * level + 0.5, task=EMBEDDING),
        embeddings=True,
    )
    one, same, flat = stated(images, answers)
    assert one["cka"] is None
    assert same["cka"]["value"] == pytest.approx(1, abs=1e-5)
    assert same["cka"]["low"] == pytest.approx(1, abs=1e-5)
    assert math.isnan(flat["cka"]["value"])
    assert one["metrics"]["probe_accuracy"]["value"] > 0.8
    assert same["difference"]["probe_accuracy"]["value"] == pytest.approx(0, abs=1e-9)
    assert flat["metrics"]["probe_accuracy"]["value"] < 0.7


def test_an_embedding_of_one_patient_has_nobody_to_be_judged_by() -> None:
    images = Greys([10, 200, 90, 160], [0, 1, 0, 1])
    (only,) = stated(images, answered(images, contender("one", task=EMBEDDING), embeddings=True), np.zeros(4))
    assert only["metrics"] == {}
