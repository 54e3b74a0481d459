"""A refit gives int8 fp32's decisions and certainty back, in the graph, so that nothing else in the bundle moves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import helper

from edgefm.quantize.refit import Refit, folded, folds, refit
from edgefm.runtime.decide import decisions, probabilities
from edgefm.spec.task import Task, make_task

BINARY = replace(make_task("binary", ("normal", "ill")), thresholds=(0.3,), temperature=1.7)
MULTILABEL = replace(make_task("multilabel", ("a", "b", "c")), thresholds=(0.2, 0.5, 0.9), temperature=0.8)
MULTICLASS = replace(make_task("multiclass", ("a", "b", "c")), temperature=1.3)


def logits(task: Task, n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=2.0, size=(n, len(task.labels)))


def after(found: Refit, z: np.ndarray, task: Task) -> np.ndarray:
    """The logits that the folded graph gives for these."""
    batch = ["batch", len(task.labels)]
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, batch) for name in ("images", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["logits"])], "g", value[:1], value[1:])
    proto = folded(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), found, task)
    onnx.checker.check_model(proto)
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (out,) = session.run(["logits"], {"images": z.astype(np.float32)})
    return np.asarray(out)


@pytest.mark.parametrize("task", [BINARY, MULTILABEL], ids=lambda task: task.kind)
def test_a_shift_and_a_scale_are_undone(task: Task) -> None:
    true = logits(task)
    z = 0.6 * true + np.linspace(-1, 1, len(task.labels))
    truth = decisions(probabilities(true, task), task)
    assert (decisions(probabilities(z, task), task) != truth).mean() > 0.03
    found = refit(z, true, task)
    again = after(found, z, task)
    assert (decisions(probabilities(again, task), task) == truth).all()
    assert found.temperature == pytest.approx(0.6 * task.temperature, rel=0.05)
    off = np.abs(probabilities(again, task) - probabilities(true, task)).max()
    assert off < 0.05 < np.abs(probabilities(z, task) - probabilities(true, task)).max()


def test_several_classes_have_a_temperature_and_no_cut() -> None:
    true = logits(MULTICLASS)
    found = refit(0.5 * true, true, MULTICLASS)
    assert found.cuts == ()
    assert found.temperature == pytest.approx(0.5 * MULTICLASS.temperature, rel=1e-3)
    assert np.allclose(after(found, 0.5 * true, MULTICLASS), true, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("task", [BINARY, MULTILABEL, MULTICLASS], ids=lambda task: task.kind)
def test_logits_that_are_right_stay_as_they_are(task: Task) -> None:
    true = logits(task)
    assert np.allclose(after(refit(true, true, task), true, task), true, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_one_or_two_images_and_one_decision_are_enough(n: int, sign: float) -> None:
    true = sign * np.array([[-5.0, 5.0]] * n)
    z = true - sign * np.array([[-6.0, 6.0]])
    found = refit(z, true, BINARY)
    again = after(found, z, BINARY)
    assert np.isfinite([found.temperature, *found.cuts]).all()
    assert (decisions(probabilities(again, BINARY), BINARY) == decisions(probabilities(true, BINARY), BINARY)).all()


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_at_the_end_of_the_scale_stays_there(threshold: float) -> None:
    task = replace(BINARY, thresholds=(threshold,))
    true = logits(task)
    found = refit(true + [0.0, 0.5], true, task)
    again = after(found, true + [0.0, 0.5], task)
    assert np.isfinite(again).all()
    assert (decisions(probabilities(again, task), task) == decisions(probabilities(true, task), task)).mean() > 0.99


def test_of_equally_good_cuts_the_nearest_to_the_threshold_is_taken() -> None:
    task = make_task("binary", ("normal", "ill"))
    true = np.array([[0.0, margin] for margin in (-3.0, -2.0, 2.0, 3.0)])
    assert refit(true, true, task).cuts == (0.0,)
    assert refit(true - [0.0, 2.5], true, task).cuts == (-2.5,)


def test_what_was_folded_is_told_and_the_source_is_left_alone() -> None:
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 2]) for name in ("images", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["logits"])], "g", value[:1], value[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    changed = folded(proto, Refit(0.85, (0.4,)), BINARY)
    assert folds(proto) == {}
    assert len(proto.graph.node) == 1
    level = 1.7 * np.log(0.3 / 0.7)
    assert folds(changed) == pytest.approx(
        {"logit_scale": 2.0, "logit_shift_0": -(level - 0.8) / 2, "logit_shift_1": (level - 0.8) / 2}
    )
