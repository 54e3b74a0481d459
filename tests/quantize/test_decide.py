"""The gate looks at decisions, says why it refuses, and does not pretend to see what the images do not show."""

from __future__ import annotations

import numpy as np

from edgefm.quantize.decide import Row, excess, judge, refusals
from edgefm.spec.recipe import QuantizeRecipe
from edgefm.spec.task import make_task

BINARY = make_task("binary", ("normal", "ill"))
EMBEDDING = make_task("embedding")
STRICT = QuantizeRecipe()


def outputs(logits: list[float], embedding: np.ndarray | None = None) -> dict[str, np.ndarray]:
    z = np.array(logits, np.float32)
    return {
        "logits": np.stack([-z, z], axis=1),
        "embedding": np.eye(len(z), dtype=np.float32) if embedding is None else embedding,
    }


def rows(before: list[float], after: list[float], labels: list[int] | None) -> tuple[Row, Row]:
    truth = outputs(before)
    known = None if labels is None else np.array(labels)
    return judge("fp32", truth, truth, BINARY, known), judge("onnx-int8", outputs(after), truth, BINARY, known)


def test_the_same_answers_pass() -> None:
    reference, row = rows([-2, -1, 1, 2], [-1.9, -1.1, 1, 2.2], [0, 0, 1, 1])
    assert row.flips == 0
    assert refusals(row, reference, BINARY, STRICT, 4) == []


def test_an_auc_that_stays_does_not_hide_changed_decisions() -> None:
    """All scores move up together: the order and so the AUC stay, the decisions do not."""
    before = list(np.linspace(-1, 1, 100))
    labels = [0] * 50 + [1] * 50
    reference, row = rows(before, [z + 0.3 for z in before], labels)
    assert row.metrics["auc"] == reference.metrics["auc"]
    reasons = refusals(row, reference, BINARY, STRICT, 100)
    assert any("decisions change" in reason for reason in reasons)
    assert any("balanced accuracy falls by" in reason for reason in reasons)
    assert not any(reason.startswith("auc") for reason in reasons)


def test_flips_that_cancel_in_every_metric_are_refused_by_their_count() -> None:
    reference, row = rows([-1, -1, 1, 1], [1, -1, -1, 1], [1, 0, 0, 1])
    recipe = QuantizeRecipe(max_drop=1.0)
    assert refusals(row, reference, BINARY, recipe, 4) == ["2 of 4 decisions change, 50.0 % (at most 1 %)"]
    assert refusals(row, reference, BINARY, QuantizeRecipe(max_drop=1.0, max_flips=0.5), 4) == []


def test_a_metric_that_rises_is_no_reason() -> None:
    reference, row = rows([1, -1, 1, 1], [-1, -1, 1, 1], [0, 0, 1, 1])
    assert refusals(row, reference, BINARY, QuantizeRecipe(max_flips=1.0), 4) == []


def test_one_class_only_leaves_the_flips_to_decide_and_says_so() -> None:
    reference, row = rows([-1, -1, 1, 1], [-1, 1, 1, 1], [1, 1, 1, 1])
    assert refusals(row, reference, BINARY, STRICT, 4) == ["1 of 4 decisions change, 25.0 % (at most 1 %)"]


def test_without_labels_the_cosine_and_the_flips_decide() -> None:
    truth = outputs([-1, -1, 1, 1])
    turned = outputs([-1, -1, 1, 1], np.roll(np.eye(4, dtype=np.float32), 1, axis=0))
    row, reference = judge("x-int8", turned, truth, BINARY, None), judge("fp32", truth, truth, BINARY, None)
    assert list(row.metrics) == ["mean_cosine"]
    assert refusals(row, reference, BINARY, STRICT, 4) == ["mean cosine falls by 1.0000 from 1.0000 (at most 0.005)"]


def test_an_embedding_is_judged_by_cosine_and_neighbours_and_has_no_decisions() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    truth = {"embedding": random.normal(size=(40, 8)) + 4 * labels[:, None]}
    noisy = {"embedding": random.normal(size=(40, 8)) * 50}
    reference = judge("fp32", truth, truth, EMBEDDING, labels)
    row = judge("x-int8", noisy, truth, EMBEDDING, labels)
    assert row.flips is None
    reasons = refusals(row, reference, EMBEDDING, STRICT, 40)
    assert [reason.split(" falls")[0] for reason in reasons] == ["mean cosine", "knn accuracy"]


def test_the_excess_is_what_goes_beyond_the_gate_and_agrees_with_its_word() -> None:
    for after, labels in (([-1, 1, 1, 1], [0, 0, 1, 1]), ([-2, -1, 1, 2], [0, 0, 1, 1]), ([-1, 1, 1, 1], [1, 1, 1, 1])):
        reference, row = rows([-1, -1, 1, 1], after, labels)
        over = excess(row, reference, BINARY, STRICT)
        assert (over > 0) == bool(refusals(row, reference, BINARY, STRICT, 4))
    reference, row = rows([-1, -1, 1, 1], [-1, 1, 1, 1], [0, 0, 1, 1])
    assert excess(row, reference, BINARY, STRICT) == 0.25 - STRICT.max_drop
    assert excess(row, reference, BINARY, QuantizeRecipe(max_drop=0.5, max_flips=0.125)) == 0.125


def test_a_limit_that_is_reached_is_not_exceeded() -> None:
    reference, row = rows([-1, -1, 1, 1], [-1, 1, 1, 1], [0, 0, 1, 1])
    recipe = QuantizeRecipe(max_drop=0.25, max_flips=0.25)
    assert excess(row, reference, BINARY, recipe) == 0
    assert refusals(row, reference, BINARY, recipe, 4) == []
