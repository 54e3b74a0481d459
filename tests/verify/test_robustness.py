"""Robustness: each image read once, errors as `Scores` has them, mCE by hand, and what cannot be measured refused in a line."""

from __future__ import annotations

import math
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest

from edgefm.cli import verb_command
from edgefm.errors import InputError
from edgefm.spec.task import Task, make_task
from edgefm.verify.answers import Images
from edgefm.verify.contenders import Contender
from edgefm.verify.corruptions import MODALITIES
from edgefm.verify.metrics import task_metrics
from edgefm.verify.robustness import Errors, cells_of, compared, drawn, plan, robustness

from .people import BINARY, Greys, contender


def measured(images: Images, *contenders: Contender, reference: int | None = 0, **options: Any) -> dict[str, Any]:
    return robustness(
        images,
        contenders,
        reference=None if reference is None else contenders[reference],
        modality=options.pop("modality", "xray"),
        groups=np.arange(len(images)),
        seed=options.pop("seed", 0),
        bar=lambda share, left: None,
        **{"draws": 20, **options},
    )


@pytest.mark.parametrize(
    ("task", "labelled", "modality", "words"),
    [
        (BINARY, True, "x-ray", "expected xray, ct, mr"),
        (BINARY, False, "xray", "the data have none"),
        (make_task("embedding"), True, "xray", "decides nothing"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_answered(
    task: Task, labelled: bool, modality: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        plan(modality, 5, task, labelled)


def test_the_line_says_how_many_answers_it_takes() -> None:
    assert plan("xray", 1211, BINARY, True) == (
        "robustness: 100 of 1,211 images, 13 corruptions of xray at 5 severities: 6,600 answers of each model"
    )
    assert "3 of 3 images" in plan("oct", 3, BINARY, True)


def test_one_image_of_one_class_has_flips_and_errors_that_are_undefined() -> None:
    images = Greys([200], [1])
    found = measured(images, contender("only"))
    assert images.read == [1]
    assert math.isnan(found["clean"]["only"]["balanced_error"])
    assert math.isnan(found["summary"]["only"]["mce"]["value"])
    by_cell = {(each["name"], each["severity"]): each["variants"]["only"]["flips"] for each in found["corruptions"]}
    assert by_cell["brightness_down", 5] == 1  # 200 / 2 is below the threshold of 127.5
    assert by_cell["brightness_up", 5] == 0


def test_brightness_errs_as_can_be_worked_out_by_hand() -> None:
    images = Greys([10, 90, 100, 140, 170, 250], [0, 0, 0, 1, 1, 1])
    found = measured(images, contender("one"), contender("dark", lambda level: level * 0.9))
    cells = {(each["name"], each["severity"]): each["variants"] for each in found["corruptions"]}
    assert found["clean"] == {"one": {"balanced_error": 0.0}, "dark": {"balanced_error": pytest.approx(1 / 6)}}
    # x 0.6: 84, 102, 150 of the ill, x 0.9 again for the second model: 75.6, 91.8, 135
    assert cells["brightness_down", 4]["one"] == {
        "balanced_error": pytest.approx(1 / 3), "flips": 2, "unlike_reference": 0,
    }  # fmt: skip
    assert cells["brightness_down", 4]["dark"] == {
        "balanced_error": pytest.approx(1 / 3), "flips": 1, "unlike_reference": 0,
    }  # fmt: skip
    # x 1.3: 117, 130 of the well; the second model 105.3, 117
    assert cells["brightness_up", 3]["one"]["balanced_error"] == pytest.approx(1 / 6)
    assert cells["brightness_up", 3]["dark"]["unlike_reference"] == 1
    assert len(found["corruptions"]) == 13 * 5


def test_mce_is_the_mean_over_corruptions_of_summed_errors_against_the_references() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 40)
    images = Greys(np.clip(110 + 60 * labels + random.integers(-70, 70, 40), 0, 255).tolist(), labels)
    found = measured(images, contender("one"), contender("two", lambda level: level**1.3))
    errors = {
        name: np.array([each["variants"][name]["balanced_error"] for each in found["corruptions"]]).reshape(13, 5)
        for name in ("one", "two")
    }
    clean = {name: each["balanced_error"] for name, each in found["clean"].items()}
    summary = found["summary"]["two"]
    above, below = errors["two"].sum(axis=1), errors["one"].sum(axis=1)
    assert summary["mce"]["value"] == pytest.approx((above / below).mean())
    rises = (errors["one"] - clean["one"]).sum(axis=1)
    ratio = (errors["two"] - clean["two"]).sum(axis=1)[rises > 1e-9] / rises[rises > 1e-9]
    assert 0 < (rises > 1e-9).sum() < 13
    assert summary["relative_mce"]["value"] == pytest.approx(ratio.mean())
    assert summary["increase"]["value"] == pytest.approx(errors["two"].mean() - clean["two"])
    assert summary["difference"]["value"] == pytest.approx(errors["two"].mean() - errors["one"].mean())
    assert summary["mean_error"]["low"] <= summary["mean_error"]["value"] <= summary["mean_error"]["high"]
    assert found["summary"]["one"]["mce"]["value"] == pytest.approx(1)
    assert "difference" not in found["summary"]["one"]


def test_without_a_reference_nothing_is_compared_with_one() -> None:
    found = measured(Greys([10, 240], [0, 1]), contender("int8", precision="int8"), reference=None)
    assert set(found["summary"]["int8"]) == {"mean_error", "increase"}
    assert found["corruptions"][0]["variants"]["int8"]["unlike_reference"] is None


def test_the_same_seed_gives_the_same_record_and_another_one_other_images() -> None:
    images = Greys(list(range(250)), [index // 125 for index in range(250)])
    once, again = (measured(images, contender("one"), limit=20) for _ in range(2))
    assert once == again
    assert once["images"] == 20
    assert sum(images.read) == 40
    assert drawn(images.labels, 20, 0).tolist() != drawn(images.labels, 20, 1).tolist()  # type: ignore[arg-type]


def test_as_many_of_each_class_are_drawn_as_there_are() -> None:
    labels = np.array([0] * 90 + [1] * 3 + [2] * 30)
    chosen = drawn(labels, 23, seed=5)
    assert np.bincount(labels[chosen]).tolist() == [10, 3, 10]
    assert (np.diff(chosen) > 0).all()
    assert len(drawn(np.zeros((50, 4), np.uint8), 20, 0)) == 20
    assert drawn(labels, 123, 0).tolist() == list(range(123))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_errors_are_one_less_the_balanced_accuracy_of_the_metrics(kind: str) -> None:
    random = np.random.default_rng(3)
    task = make_task(kind, ("a", "b") if kind == "binary" else ("a", "b", "c", "never"))  # type: ignore[arg-type]
    width = len(task.labels)
    if kind == "multilabel":
        labels = (random.random((30, width)) < [0.5, 0.3, 0.2, 0]).astype(np.uint8)
        p = random.random((30, width))
        decided = p >= 0.5
    else:
        labels = random.integers(0, min(width, 3), 30)
        p = random.dirichlet(np.ones(width), 30)
        decided = p.argmax(axis=1) if kind == "multiclass" else (p[:, 1] >= 0.5).astype(np.int64)
    errors = Errors(decided[None, None], labels, task)
    for rows in (np.arange(30), random.integers(0, 30, 30), np.array([4])):
        wanted = 1 - task_metrics(p[rows], labels[rows], task)["balanced_accuracy"]
        assert errors(rows)[0, 0] == pytest.approx(wanted, nan_ok=True)


def test_one_engine_answers_for_each_precision_beside_the_reference_from_outside() -> None:
    own = [contender(name, precision=name[-4:]) for name in ("openvino-fp32", "onnx-fp32", "native-int8", "onnx-int8")]
    teacher = contender("teacher")
    assert [each.name for each in compared(own, [teacher])] == ["teacher", "openvino-fp32", "native-int8"]


def test_the_option_offers_every_modality_there_is() -> None:
    (option,) = [each for each in verb_command("verify").params if each.name == "robustness"]
    assert re.findall(r"\w+", option.help.partition("modality: ")[2].replace(" or ", ", ")) == list(MODALITIES)
    assert all(len(cells_of(name)) == 5 * len(kinds) for name, kinds in MODALITIES.items())


def test_memory_does_not_grow_with_the_pixels_of_more_images() -> None:
    class Large(Greys):
        def pixels(self, index: int) -> np.ndarray:
            return np.full((400, 400), self.levels[index], np.uint8)

    def peak(count: int) -> int:
        images = Large([7, 200] * (count // 2), [0, 1] * (count // 2))
        tracemalloc.start()
        measured(images, contender("one"), modality="tissue", draws=2)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(12) - peak(2) < 10 * 400 * 400 / 4
