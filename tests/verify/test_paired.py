"""The classical tests, on the answers of two models for the same images."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.spec.task import make_task
from edgefm.verify.delong import delong
from edgefm.verify.paired import paired_tests
from edgefm.verify.statement import statements

from .people import Greys, answered, contender

LEVELS = [20, 60, 100, 120, 140, 180, 200, 240]
TRUTH = np.array([0, 0, 0, 1, 0, 1, 1, 1])


def test_they_compare_decisions_and_areas_of_this_model_less_the_references() -> None:
    images = Greys(LEVELS, TRUTH)
    reference, other = answered(images, contender("teacher"), contender("small", lambda level: 1 - np.abs(level - 0.55)))
    found = paired_tests(other, reference, TRUTH)
    right = [(answers.decided == TRUTH) for answers in (other, reference)]
    assert found["mcnemar"]["only_other"] == int((~right[0] & right[1]).sum()) > 0
    assert other.probabilities is not None
    assert reference.probabilities is not None
    expected = delong(other.probabilities[:, 1], reference.probabilities[:, 1], TRUTH == 1)
    assert found["delong"] == expected._asdict()
    assert found["delong"]["difference"] < 0


def test_each_record_has_them_but_the_references() -> None:
    answers = answered(Greys(LEVELS, TRUTH), contender("teacher"), contender("small"))
    teacher, small = statements(answers, answers[0], TRUTH, np.arange(8), seed=0, draws=20)
    assert teacher["tests"] is None
    assert small["tests"]["mcnemar"]["exact"] == 1
    assert small["tests"]["delong"]["p"] == 1
    assert small["calibration"]["ece"] == teacher["calibration"]["ece"] > 0
    assert len(small["calibration"]["reliability"]["images"][0]) == 15
    brier = small["calibration"]["brier"]
    whole = brier["reliability"] - brier["generalized_resolution"] + brier["uncertainty"]
    assert whole == pytest.approx(small["metrics"]["brier"]["value"])
    assert small["operating"]["auprc"]["low"] <= small["operating"]["auprc"]["value"]


def test_without_labels_there_are_none() -> None:
    answers = answered(Greys(LEVELS), contender("teacher"), contender("small"))
    small = statements(answers, answers[0], None, np.arange(8), seed=0, draws=20)[1]
    assert (small["tests"], small["calibration"], small["operating"]) == (None, None, {})


def test_an_image_with_several_labels_is_right_where_all_are() -> None:
    from edgefm.verify.answers import Answers

    task = make_task("multilabel", ("a", "b"))
    labels = np.array([[1, 0], [1, 1]], np.uint8)

    def saying(name: str, decided: list[list[int]]) -> Answers:
        probabilities = np.array(decided, float)
        said = {"probabilities": probabilities, "decided": probabilities > 0.5, "embedding": None, "cosine": None}
        return Answers(contender=contender(name, task=task), **said)  # type: ignore[arg-type]

    found = paired_tests(saying("one", [[1, 0], [1, 0]]), saying("other", [[1, 0], [1, 1]]), labels)
    assert (found["mcnemar"]["both"], found["mcnemar"]["only_other"]) == (1, 1)
    assert "delong" not in found
