"""The gate looks at decisions, says why it refuses, and does not pretend to see what the images do not show."""

from __future__ import annotations

import numpy as np
import pytest

from edgefm.quantize.decide import Findings, Row, judge, refusals, slower
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
    lines = Findings(n=4, where="data", rows=(reference, row)).lines()
    assert "undefined" in lines[2]
    assert "auc, specificity, balanced accuracy: undefined on these images" in lines[-1]


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
    assert "flipped" in Findings(n=40, where="data", rows=(reference, row)).lines()[1]


def test_the_table_has_a_line_per_way_to_run_and_counts_flips() -> None:
    reference, row = rows([-1, -1, 1, 1], [-1, 1, 1, 1], [0, 0, 1, 1])
    title, head, first, second = Findings(n=4, where="data", rows=(reference, row)).lines()
    assert title == "on 4 images of the 'val' split of data; fp32 is the model itself:"
    assert head.split() == ["auc", "sensitivity", "specificity", "balanced", "accuracy", "f1", "brier", "flipped", "ms"]
    assert first.split() == ["fp32", *["1.0000"] * 5, "0.0142", "0", "of", "4"]
    assert second.split() == ["onnx-int8", "0.7500", "1.0000", "0.5000", "0.7500", "0.8000", "0.2046", "1", "of", "4"]
    assert len(head) == len(first) == len(second)


@pytest.mark.parametrize(("int8", "said"), [(3.0, True), (1.0, False)])
def test_int8_that_is_slower_is_said_in_a_sentence(int8: float, said: bool) -> None:
    timed = [Row(name=name, metrics={}, flips=0.0, milliseconds=ms) for name, ms in (("onnx-fp32", 2.0), ("onnx-int8", int8))]
    assert ("int8 is slower" in slower(timed)) == said
