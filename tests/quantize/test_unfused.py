"""A depthwise convolution whose input has a scale for each channel: the same numbers, and ONNX Runtime runs it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefm.quantize.unfused import unfused

from .small_graphs import pair

RANDOM = np.random.default_rng(0)
CHANNELS = 8


def depthwise(*, scales: int, weight_scales: int = CHANNELS, zero: bool = True) -> onnx.ModelProto:
    """Quantized images through a quantized depthwise convolution, a ReLU and a quantizer: what ONNX Runtime fuses."""
    values: dict[str, np.ndarray] = {
        "s": RANDOM.uniform(0.01, 0.1, scales).astype(np.float32).reshape([-1] if scales > 1 else []),
        "z": RANDOM.integers(100, 150, scales).astype(np.uint8).reshape([-1] if scales > 1 else []),
        "w": RANDOM.integers(-64, 64, (CHANNELS, 1, 3, 3)).astype(np.int8),
        "ws": RANDOM.uniform(0.01, 0.1, weight_scales).astype(np.float32).reshape([-1] if weight_scales > 1 else []),
        "wz": RANDOM.integers(-3, 3, weight_scales).astype(np.int8).reshape([-1] if weight_scales > 1 else []),
        "o": np.array(0.05, np.float32),
        "oz": np.array(0, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"], axis=1),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"] if zero else ["w", "ws"], ["wf"], axis=0),
        helper.make_node("Conv", ["x", "wf"], ["c"], group=CHANNELS, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "o", "oz"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "o", "oz"], ["y"]),
    ]
    shape = [1, CHANNELS, 6, 6]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "y")]
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items() if zero or name != "wz"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(proto: onnx.ModelProto, images: np.ndarray, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


@pytest.mark.parametrize("weight_scales", [1, CHANNELS])
@pytest.mark.parametrize("zero", [False, True])
def test_it_is_the_same_function_and_it_runs(weight_scales: int, zero: bool):
    proto = depthwise(scales=CHANNELS, weight_scales=weight_scales, zero=zero)
    images = RANDOM.normal(size=(1, CHANNELS, 6, 6)).astype(np.float32)
    changed = unfused(proto)
    onnx.checker.check_model(changed)
    literally = run(proto, images, "ORT_DISABLE_ALL")
    assert literally.std() > 0.05
    np.testing.assert_array_equal(run(changed, images, "ORT_DISABLE_ALL"), literally)
    assert np.abs(run(changed, images) - literally).max() <= 0.0501  # a step of the output: sums in another order


def test_the_weights_stay_int8_in_the_file():
    floats = [
        tensor for tensor in unfused(depthwise(scales=CHANNELS)).graph.initializer if tensor.data_type == TensorProto.FLOAT
    ]
    assert max(numpy_helper.to_array(tensor).size for tensor in floats) == CHANNELS


def test_one_scale_for_all_channels_stays_int8():
    proto = depthwise(scales=1)
    assert unfused(proto) == proto


def test_the_given_graph_stays_as_it_was():
    proto = depthwise(scales=CHANNELS)
    before = proto.SerializeToString()
    unfused(proto)
    assert proto.SerializeToString() == before


def test_a_mobilenet_with_random_weights_runs():
    small = pair("mobilenetv3_small_050")
    changed = unfused(small.int8)
    literally = [run(each, small.images, "ORT_DISABLE_ALL") for each in (small.int8, changed)]
    np.testing.assert_array_equal(*literally)
    assert np.isfinite(run(changed, small.images)).all()  # without weights that were trained rounding decides too much for more
