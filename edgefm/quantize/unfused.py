"""The int8 graph as ONNX Runtime can run it: what it would fuse and then refuse is kept apart.

Not other numbers: every weight is what its int8 form means, to the bit.

NNCF gives the inputs of depthwise convolutions a scale for each channel; it is what keeps a MobileNet's answers. ONNX Runtime
(1.24 to 1.32) fuses a convolution between quantized inputs, weights and outputs into QLinearConv, which takes one scale for
all channels and fails at the first image with another number of them. A float weight keeps such a convolution from being
fused. The weights of depthwise convolutions are few: 2 % of a MobileNetV3-small.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from .layers import drop_unread


def unfused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, with float weights in each convolution whose input has a scale for each channel. `proto` stays as it is."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    dequantizers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        source, weight = (dequantizers.get(name) for name in node.input[:2])
        if source is None or weight is None or math.prod(tensors[source.input[1]].dims) == 1:
            continue
        name = f"{weight.output[0]}/float"
        if name not in tensors:
            values = _dequantized([numpy_helper.to_array(tensors[each]) for each in weight.input], weight)
            tensors[name] = numpy_helper.from_array(values, name)
            graph.initializer.append(tensors[name])
        node.input[1] = name
    drop_unread(graph)
    return changed


def _dequantized(inputs: list[np.ndarray], node: onnx.NodeProto) -> np.ndarray:
    """(q - zero point) s, as the operator defines it, float32. `inputs`: its q, s and, if it has one, zero point."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    value, scale, *zero = inputs
    shape = [-1 if index == axis % value.ndim else 1 for index in range(value.ndim)] if scale.size > 1 else [1] * value.ndim
    point = zero[0].astype(np.int32).reshape(shape) if zero else 0
    return ((value.astype(np.int32) - point).astype(np.float32) * scale.reshape(shape)).astype(np.float32)
