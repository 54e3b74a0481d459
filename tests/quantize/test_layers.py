"""Layers go back to float in the graph itself: all of them give fp32 again, one gives one, and nothing else moves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgefm.quantize.bias import correct_biases
from edgefm.quantize.execute import execute
from edgefm.quantize.layers import QUANTIZERS, bias_of, in_float, layers

from .small_graphs import pair

pytest.importorskip("nncf")
NAMES = ("test_efficientnet", "test_vit", "mobilenetv3_small_050")


def quantizers(proto: onnx.ModelProto) -> int:
    return sum(node.op_type in QUANTIZERS for node in proto.graph.node)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("corrected", [False, True])
def test_with_all_layers_in_float_the_graph_is_fp32_again(name: str, corrected: bool) -> None:
    fp32, int8, images = pair(name)
    changed = correct_biases(int8, fp32, images) if corrected else int8
    back = in_float(changed, fp32, layers(int8, fp32))
    assert quantizers(back) == 0
    for output, value in execute(fp32, images).items():
        assert np.abs(execute(back, images)[output] - value).max() <= 1e-4 * value.std()
    assert np.abs(execute(changed, images)["logits"] - execute(fp32, images)["logits"]).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_one_layer_in_float_leaves_the_others_and_the_source_as_they_are(name: str) -> None:
    fp32, int8, _ = pair(name)
    before = int8.SerializeToString(deterministic=True)
    names = layers(int8, fp32)
    chosen = next(each for each in names if "Conv" in each or "MatMul" in each)
    changed = in_float(int8, fp32, [chosen])
    assert int8.SerializeToString(deterministic=True) == before
    assert layers(changed, fp32) == [each for each in names if each != chosen]
    node = next(node for node in changed.graph.node if node.name == chosen)
    floats = {tensor.name for tensor in changed.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    assert node.input[1] in floats
    onnx.checker.check_model(changed)


def test_no_layer_in_float_is_the_same_graph() -> None:
    fp32, int8, images = pair("test_efficientnet")
    same = in_float(int8, fp32, [])
    for output, value in execute(int8, images).items():
        assert np.array_equal(execute(same, images)[output], value)


def test_a_bias_is_found_in_the_convolution_and_behind_the_matrix_product() -> None:
    fp32, _, _ = pair("test_vit")
    places = {node.op_type: bias_of(fp32.graph, node) for node in fp32.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")}
    assert places["Conv"] is not None
    assert places["Conv"][1] == 2
    adders = [bias_of(fp32.graph, node) for node in fp32.graph.node if node.op_type == "MatMul"]
    assert {found[0].op_type for found in adders if found} == {"Add"}
    assert None in adders  # queries times keys have none
