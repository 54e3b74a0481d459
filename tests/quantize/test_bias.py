"""A corrected bias takes up the mean error: behind a convolution, a Gemm and a MatMul, shared or absent."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefm.quantize import bias
from edgefm.quantize.bias import centred, correct_biases, last_place, means, places
from edgefm.quantize.execute import execute

from .small_graphs import pair

pytest.importorskip("nncf")


def mean_error(int8: onnx.ModelProto, fp32: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Mean error per channel and place, in standard deviations of that place's means."""
    found = places(int8, fp32)
    before, after = (execute(means(graph, found), images) for graph in (fp32, int8))
    return np.concatenate([(after[name] - before[name]).mean(axis=0) / before[name].std() for name in before])


def corrected(
    int8: onnx.ModelProto, fp32: onnx.ModelProto, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> onnx.ModelProto:
    """All corrections, also those that do not help the answer: each error counts as less than the one before."""
    errors = iter(range(10_000, 0, -1))
    with monkeypatch.context() as patched:
        patched.setattr(bias, "square_error", lambda *_: next(errors))
        return correct_biases(int8, fp32, images)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_the_mean_error_of_every_corrected_layer_is_gone_on_the_images_it_was_measured_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp32, int8, images = pair(name)
    changed = corrected(int8, fp32, images, monkeypatch)
    assert np.abs(mean_error(int8, fp32, images)).max() > 1e-3
    assert np.abs(mean_error(changed, fp32, images)).max() < 1e-4
    onnx.checker.check_model(changed)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_the_answers_come_nearer_and_a_correction_that_does_not_help_is_not_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp32, int8, images = pair(name)
    aim = execute(fp32, images)["logits"]

    def error(graph: onnx.ModelProto) -> float:
        off = execute(graph, images)["logits"] - aim
        return float(((off - off.mean(axis=0)) ** 2).mean())  # the mean is the last layer's, see `centred`

    changed = correct_biases(int8, fp32, images)
    assert error(changed) < error(int8)
    own = sum(tensor.name.endswith("/bias") for tensor in changed.graph.initializer)
    assert 0 < own < len(places(int8, fp32))
    with monkeypatch.context() as patched:
        patched.setattr(bias, "square_error", lambda *_: 1.0)
        assert correct_biases(int8, fp32, images) == int8


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_centred_answers_err_by_nothing_in_the_mean_and_as_much_about_it(name: str) -> None:
    fp32, int8, images = pair(name)
    aim = execute(fp32, images)["logits"]
    before, after = (execute(graph, images)["logits"] - aim for graph in (int8, centred(int8, images, aim)))
    clear = np.abs(before.mean(axis=0)) > before.std(axis=0, ddof=1) / np.sqrt(len(images))
    assert clear.any()
    assert np.abs(after.mean(axis=0))[clear].max() < 1e-6 * np.abs(aim).max()
    np.testing.assert_allclose(after[:, ~clear], before[:, ~clear], atol=1e-6 * float(np.abs(aim).max()))
    np.testing.assert_allclose(after - after.mean(axis=0), before - before.mean(axis=0), atol=1e-6 * float(np.abs(aim).max()))
    twice = centred(centred(int8, images, aim), images, aim)
    assert np.abs((execute(twice, images)["logits"] - aim).mean(axis=0))[clear].max() < 1e-6 * np.abs(aim).max()
    onnx.checker.check_model(twice)


def test_one_image_and_answers_that_are_no_numbers_shift_nothing() -> None:
    fp32, int8, images = pair("test_efficientnet")
    aim = execute(fp32, images)["logits"]
    assert centred(int8, images[:1], aim[:1]) == int8
    aim[0] = np.nan
    np.testing.assert_array_equal(*(execute(graph, images)["logits"] for graph in (int8, centred(int8, images, aim))))


def test_corrections_that_take_too_long_are_given_up() -> None:
    fp32, int8, images = pair("test_efficientnet")
    assert correct_biases(int8, fp32, images, stop=0.0) is None


def test_an_answer_without_a_bias_is_left_as_it_is() -> None:
    fp32, int8, images = pair("test_efficientnet")
    bare = onnx.ModelProto()
    bare.CopyFrom(int8)
    del bare.graph.output[0]  # the embedding is a mean over places
    assert last_place(bare) is None
    assert centred(bare, images, execute(fp32, images)["embedding"]) == bare


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_int8_graph_and_weights_stay_as_they_were(name: str) -> None:
    fp32, int8, images = pair(name)
    before = int8.SerializeToString(deterministic=True)
    changed = correct_biases(int8, fp32, images)
    assert int8.SerializeToString(deterministic=True) == before
    weights = {tensor.name: tensor for tensor in int8.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    assert weights
    assert all(tensor == weights[tensor.name] for tensor in changed.graph.initializer if tensor.name in weights)


def test_the_same_bytes_twice() -> None:
    fp32, int8, images = pair("test_efficientnet")
    one, two = (correct_biases(int8, fp32, images).SerializeToString(deterministic=True) for _ in range(2))
    assert one == two


def test_a_bias_that_two_layers_share_is_corrected_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter stores equal biases once."""
    fp32, int8, images = pair("test_efficientnet")
    shared, small = onnx.ModelProto(), onnx.ModelProto()
    shared.CopyFrom(fp32)
    small.CopyFrom(int8)
    found = [place for place in places(int8, fp32) if place.channels_first]
    one, two = next((a, b) for a in found for b in found if a.node < b.node and a.channels == b.channels)
    for graph in (shared.graph, small.graph):
        graph.initializer.append(numpy_helper.from_array(np.zeros(one.channels, np.float32), "shared"))
        for node in graph.node:
            if node.name in (one.node, two.node):
                del node.input[2:]
                node.input.append("shared")
    changed = corrected(small, shared, images, monkeypatch)
    biases = [node.input[2] for node in changed.graph.node if node.name in (one.node, two.node)]
    assert len(set(biases)) == 2
    assert np.abs(mean_error(changed, shared, images)).max() < 1e-4


def test_an_absent_bias_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    fp32, int8, images = pair("test_efficientnet")
    bare, small = onnx.ModelProto(), onnx.ModelProto()
    bare.CopyFrom(fp32)
    small.CopyFrom(int8)
    place = next(place for place in places(int8, fp32) if place.channels_first)
    for graph in (bare.graph, small.graph):
        node = next(node for node in graph.node if node.name == place.node)
        del node.input[2:]
    changed = corrected(small, bare, images, monkeypatch)
    assert len(next(node for node in changed.graph.node if node.name == place.node).input) == 3
    assert np.abs(mean_error(changed, bare, images)).max() < 1e-4
