"""What computes in float is stored as int8: small, near, in place, and for every way that a graph holds a weight."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefm.quantize.weights import SMALLEST, drop_zero_points, pack_weights

from .small_graphs import pair

RANDOM = np.random.default_rng(0)


def model(node: onnx.NodeProto, weight: np.ndarray, shape: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


@pytest.mark.parametrize(
    ("node", "shape", "weight"),
    [
        (helper.make_node("Conv", ["images", "w"], ["y"]), [2, 64, 3, 3], (32, 64, 1, 1)),
        (helper.make_node("MatMul", ["images", "w"], ["y"]), [2, 5, 64], (64, 32)),
        (helper.make_node("Gemm", ["images", "w"], ["y"], transB=1), [2, 64], (32, 64)),
        (helper.make_node("Gemm", ["images", "w"], ["y"]), [2, 64], (64, 32)),
    ],
    ids=["convolution", "matrix product", "transposed Gemm", "Gemm"],
)
def test_each_output_channel_has_a_scale_of_its_own(node: onnx.NodeProto, shape: list[int], weight: tuple[int, ...]) -> None:
    values = RANDOM.normal(size=weight)
    channels = 0 if weight[0] == 32 else len(weight) - 1
    sizes = np.geomspace(1e-3, 1e3, 32)  # one scale for all would lose the small channels
    values *= np.expand_dims(sizes, [axis for axis in range(len(weight)) if axis != channels])
    proto = model(node, values, shape)
    images = RANDOM.normal(size=shape).astype(np.float32)
    before = run(proto, images)
    pack_weights(proto)
    onnx.checker.check_model(proto)
    after = run(proto, images)
    axis = 1 if node.op_type == "Conv" else before.ndim - 1
    error = np.abs(after - before).max(axis=tuple(index for index in range(before.ndim) if index != axis))
    step = np.abs(values).max(axis=tuple(index for index in range(values.ndim) if index != channels)) / 127
    assert (error <= 0.51 * step * np.abs(images).sum(axis=axis).max()).all()  # half a step of each weight
    assert not np.array_equal(after, before)
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    read = {name for each in proto.graph.node for name in each.input}
    assert {kinds[name] for name in read if name in kinds and name.endswith("int8")} == {TensorProto.INT8}
    assert "w" not in read


def test_channels_of_zeros_stay_zero_and_small_weights_are_left_alone() -> None:
    node = helper.make_node("MatMul", ["images", "w"], ["y"])
    values = RANDOM.normal(size=(64, 32))
    values[:, 3] = 0
    proto = model(node, values, [2, 64])
    pack_weights(proto)
    assert (run(proto, np.ones((2, 64), np.float32))[:, 3] == 0).all()
    small = model(node, RANDOM.normal(size=(SMALLEST // 32 - 1, 32)), [2, SMALLEST // 32 - 1])
    before = small.SerializeToString(deterministic=True)
    pack_weights(small)
    assert small.SerializeToString(deterministic=True) == before


def test_a_weight_that_two_layers_share_is_stored_once() -> None:
    proto = model(helper.make_node("MatMul", ["images", "w"], ["a"]), RANDOM.normal(size=(64, 64)), [2, 64])
    proto.graph.node.append(helper.make_node("MatMul", ["a", "w"], ["y"]))
    pack_weights(proto)
    onnx.checker.check_model(proto)
    assert sum(node.op_type == "DequantizeLinear" for node in proto.graph.node) == 1


def test_zero_points_go_where_they_are_zero_and_only_there() -> None:
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", zero], [out]) for zero, out in (("zero", "a"), ("three", "b"))] + [
        helper.make_node("Add", ["a", "b"], ["y"])
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.arange(4, dtype=np.int8), "q"),
            numpy_helper.from_array(np.float32(0.5), "s"),
            numpy_helper.from_array(np.int8(0), "zero"),
            numpy_helper.from_array(np.int8(3), "three"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    before = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {})[0]
    drop_zero_points(proto)
    assert [len(node.input) for node in proto.graph.node[:2]] == [2, 3]
    after = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {})[0]
    assert np.array_equal(before, after)


def test_a_mobilenets_gates_no_longer_fill_the_file() -> None:
    fp32, int8, _ = pair("mobilenetv3_small_050")
    sizes = [
        sum(len(tensor.raw_data) for tensor in graph.initializer if len(tensor.dims) > 1) for graph in (fp32.graph, int8.graph)
    ]
    assert sizes[1] < 0.27 * sizes[0]
