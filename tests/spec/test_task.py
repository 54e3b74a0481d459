"""Tasks that cannot be meant are refused where they are made, so nobody after has to ask."""

from __future__ import annotations

import math

import msgspec
import pytest

from edgefm.spec.task import Task, make_task

GOOD = {"kind": "binary", "labels": ["normal", "pneumonia"], "thresholds": [0.5]}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": ["one"]}, "cannot have 1 labels"),
        ({"labels": ["a", "b", "c"]}, "cannot have 3 labels"),
        ({"labels": ["a", "a"]}, "labels repeat"),
        ({"thresholds": []}, "has 1 thresholds, not 0"),
        ({"thresholds": [0.5, 0.5]}, "has 1 thresholds, not 2"),
        ({"thresholds": [1.5]}, "<= 1"),
        ({"temperature": 0.0}, "> 0"),
        ({"temperature": -1.0}, "> 0"),
        ({"kind": "multiclass", "thresholds": [0.5]}, "has 0 thresholds"),
        ({"kind": "multilabel"}, "has 2 thresholds, not 1"),
        ({"kind": "embedding", "thresholds": []}, "cannot have 2 labels"),
        ({"kind": "survival"}, "Invalid enum value"),
        ({"unknown": 1}, "unknown field"),
    ],
)
def test_a_task_that_cannot_be_meant_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=match):
        msgspec.convert(GOOD | change, Task)


@pytest.mark.parametrize(
    ("kind", "count", "thresholds"), [("binary", 2, 1), ("multiclass", 3, 0), ("multilabel", 1, 1), ("embedding", 0, 0)]
)
def test_a_new_task_has_a_half_as_every_threshold_and_temperature_one(kind: str, count: int, thresholds: int) -> None:
    task = make_task(kind, tuple("abc"[:count]))  # type: ignore[arg-type]
    assert task.thresholds == (0.5,) * thresholds
    assert task.temperature == 1.0
    assert msgspec.json.decode(msgspec.json.encode(task), type=Task) == task


def test_a_number_that_json_does_not_have_is_no_temperature() -> None:
    text = msgspec.json.encode(Task(kind="embedding", temperature=math.nan))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Task)
