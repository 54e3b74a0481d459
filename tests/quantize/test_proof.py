"""A yes on a few images is never bare: it says what they can prove, by patient, and what the choice among trials means."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.quantize.decide import Row
from edgefm.quantize.findings import Findings
from edgefm.quantize.proof import bound, chosen, gate, needed, one_answer, unproved, yes
from edgefm.spec.recipe import QuantizeRecipe
from edgefm.spec.task import TaskKind, make_task

STRICT = QuantizeRecipe()  # 1 % of decisions


def found(n: int, patients: int | None = None, kind: TaskKind = "binary") -> Findings:
    return Findings(n=n, where="data", patients=patients, kind=kind, rows=(Row(name="fp32", metrics={}, flips=0.0),))


@pytest.mark.parametrize("n", [1, 3, 30, 299])
def test_with_the_bound_as_the_truth_no_change_at_all_is_seen_once_in_twenty(n: int) -> None:
    assert (1 - bound(n)) ** n == pytest.approx(0.05)


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.05, 0.5, 0.95, 1.0])
def test_what_is_needed_is_enough_and_one_fewer_is_not(limit: float) -> None:
    enough = needed(limit)
    assert enough is not None
    assert bound(enough) <= limit + 1e-12
    assert enough == 1 or bound(enough - 1) > limit


def test_a_yes_on_six_images_says_what_six_images_prove() -> None:
    assert yes(found(6), STRICT) == (
        "the gate says yes, on 6 images, which can prove no more than that at most 39.3 % of decisions change"
    )
    assert unproved(found(6), STRICT) == (
        "a change that never happened to 6 images may still happen to 39.3 % of others (95 %): "
        "proving at most 1 % takes 299 images"
    )
    assert "1 image, which can prove no more than that at most 95.0 %" in yes(found(1), STRICT)


def test_many_images_of_few_patients_prove_as_little_as_few_images() -> None:
    assert "on 6 patients, which can prove no more than that at most 39.3 %" in yes(found(600, patients=6), STRICT)
    assert "takes 299 patients" in str(unproved(found(600, patients=6), STRICT))


def test_enough_images_are_named_and_nothing_more() -> None:
    assert yes(found(299), STRICT) == "the gate says yes, on 299 images"
    assert unproved(found(299), STRICT) is None
    assert unproved(found(298), STRICT) is not None
    assert unproved(found(2), QuantizeRecipe(max_flips=1.0)) is None


def test_no_number_of_images_proves_that_nothing_ever_changes() -> None:
    assert "proving at most 0 % takes more images than there are" in str(unproved(found(5000), QuantizeRecipe(max_flips=0.0)))


def test_an_embedding_has_no_decisions_to_prove_anything_of() -> None:
    assert yes(found(6, kind="embedding"), STRICT) == "the gate says yes, on 6 images"
    assert gate(found(6, kind="embedding"), STRICT, None)["provable_flips"] is None


def test_the_choice_among_trials_is_said_and_one_trial_is_no_choice() -> None:
    assert chosen("int8", 1) is None
    assert str(chosen("biases corrected", 3)).startswith("'biases corrected' was chosen among 3 trials on these same images")


def test_the_record_holds_the_word_and_the_bound() -> None:
    record = gate(found(60, patients=6), STRICT, None)
    assert (record["images"], record["patients"], record["max_flips"]) == (60, 6, 0.01)
    assert record["provable_flips"] == pytest.approx(1 - 0.05 ** (1 / 6))
    assert record["verdict"] == yes(found(60, patients=6), STRICT)
    assert gate(found(60), STRICT, "onnx-int8: auc falls")["verdict"] == "the gate says no: onnx-int8: auc falls"


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_model_with_one_answer_to_everything_is_named(kind: TaskKind) -> None:
    task, rng = make_task(kind, ("a", "b")), np.random.default_rng(0)
    sure = {"logits": np.array([9.0, -9.0]) + rng.random((20, 2))}
    assert "fp32 decides the same for all 20 images" in str(one_answer(sure, task))
    assert one_answer({"logits": np.concatenate([sure["logits"], -sure["logits"][:1]])}, task) is None
    assert one_answer({"logits": sure["logits"][:1]}, task) is None
    assert one_answer({"embedding": np.ones((20, 3))}, make_task("embedding")) is None
