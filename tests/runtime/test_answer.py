"""From bare outputs to what is said about an image; what is no number is never said."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.runtime.answer import Answer, answered
from edgefm.spec.task import Conformal, Task, make_task

BINARY = Task(kind="binary", labels=("no", "yes"), thresholds=(0.3,))
MANY = Task(kind="multilabel", labels=("a", "b", "c"), thresholds=(0.5, 0.9, 0.1))


def outputs(*logits: float, embedding: tuple[float, ...] = (1.0, 2.0)) -> dict[str, np.ndarray]:
    return {"logits": np.array([logits], np.float32), "embedding": np.array([embedding], np.float32)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_no_numbers_are_no_answer(bad: float) -> None:
    with pytest.raises(InputError, match="logits are not finite"):
        answered("x", outputs(bad, 0), BINARY, "v")
    with pytest.raises(InputError, match=r"embedding is not finite\. Do not use this answer"):
        answered("x", outputs(0, 0, embedding=(0, bad)), BINARY, "v")
    with pytest.raises(InputError, match="embedding is not finite"):
        answered("x", {"embedding": np.array([[bad]], np.float32)}, make_task("embedding"), "v")


def test_a_binary_answer_goes_by_its_threshold_and_keeps_the_order_of_the_labels() -> None:
    # softmax of (0, z): yes from 0.3 on, so from z = log(3 / 7) on
    for z, label in ((np.log(3 / 7) - 0.01, "no"), (np.log(3 / 7) + 0.01, "yes"), (5.0, "yes")):
        answer = answered("x.png", outputs(0, z), BINARY, "onnx-fp32")
        assert answer.label == label
        assert list(answer.probabilities) == ["no", "yes"]
        assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert (answer.source, answer.variant, answer.error) == ("x.png", "onnx-fp32", None)


def test_several_labels_hold_each_from_its_own_threshold_on_or_none_does() -> None:
    assert answered("x", outputs(1, 1, 1), MANY, "v").label == ("a", "c")
    assert answered("x", outputs(-9, -9, -9), MANY, "v").label == ()
    assert answered("x", outputs(9, 9, 9), MANY, "v").label == ("a", "b", "c")


def test_an_embedding_has_no_label_and_a_model_without_one_gives_none() -> None:
    answer = answered("x", {"embedding": np.array([[1, 2]], np.float32)}, make_task("embedding"), "v")
    assert (answer.label, answer.probabilities) == (None, {})
    np.testing.assert_array_equal(answer.embedding, [1, 2])
    assert answered("x", {"logits": np.zeros((1, 2), np.float32)}, BINARY, "v").embedding is None


def test_a_set_holds_what_the_quantile_lets_in_and_says_when_to_abstain() -> None:
    task = msgspec.structs.replace(BINARY, conformal=Conformal(coverage=0.9, quantile=0.35))  # labels of at least 0.65
    for p, label, held, abstain in (
        (0.9, "yes", ("yes",), False),
        (0.1, "no", ("no",), False),
        (0.5, "yes", (), True),
        (0.32, "yes", ("no",), True),  # the threshold of 0.3 says yes, the set says no
    ):
        answer = answered("x", outputs(0, np.log(p / (1 - p))), task, "v")
        assert (answer.label, answer.set, answer.abstain) == (label, held, abstain)
        assert json.loads(msgspec.json.encode(answer.record()))["set"] == list(held)
    wide = msgspec.structs.replace(task, conformal=Conformal(coverage=0.99, quantile=1.0))
    assert answered("x", outputs(0, 9), wide, "v").set == ("no", "yes")
    plain = answered("x", outputs(0, 9), BINARY, "v")
    assert (plain.set, plain.abstain) == (None, None)


def test_a_record_is_plain_values_that_json_holds_exactly() -> None:
    answer = answered("x", outputs(0, 1), BINARY, "v")
    for text in (json.dumps(answer.record()), msgspec.json.encode(answer.record())):
        found = json.loads(text)
        assert found["embedding"] == [1.0, 2.0]
        assert found["probabilities"] == answer.probabilities
        assert set(found) == set(Answer.__struct_fields__)
    assert Answer(source="x", variant="v", error="broken").record()["embedding"] is None
