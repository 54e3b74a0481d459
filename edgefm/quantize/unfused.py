"""The int8 graph as ONNX Runtime can run it: what it would fuse and then refuse is kept apart.

Not other numbers: every weight is what its int8 form means, to the bit.

NNCF gives the inputs of depthwise convolutions a scale for each channel; it is what keeps a MobileNet's answers. ONNX Runtime
(1.24 to 1.32) fuses a convolution between quantized inputs, weights and outputs into QLinearConv, which takes one scale for
all channels and fails at the first image with another number of them. A float weight keeps such a convolution from being
fused. It is stored as int8 and made float by plain arithmetic, Mul(Cast(q), s), which ONNX Runtime does once, at load.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .layers import drop_unread


def unfused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, with float weights in each convolution whose input has a scale for each channel. `proto` stays as it is."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    dequantizers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    made: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        source, weight = (dequantizers.get(name) for name in node.input[:2])
        if source is None or weight is None or math.prod(tensors[source.input[1]].dims) == 1:
            continue
        name = f"{weight.output[0]}/float"
        if name not in made:
            made[name] = _arithmetic(graph, weight, [numpy_helper.to_array(tensors[each]) for each in weight.input], name)
        node.input[1] = name
    nodes = [*(node for each in made.values() for node in each), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unread(graph)
    return changed


def _arithmetic(graph: onnx.GraphProto, node: onnx.NodeProto, inputs: list[np.ndarray], name: str) -> list[onnx.NodeProto]:
    """Nodes that compute (q - zero point) s in float32, as the operator defines it, as the value `name`.

    Args:
        graph: takes the constants. node: DequantizeLinear. inputs: its q, s and, if it has one, zero point.
    """
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    value, scale, *zero = inputs
    shape = [-1 if index == axis % value.ndim else 1 for index in range(value.ndim)] if scale.size > 1 else []
    nodes = [helper.make_node("Cast", [node.input[0]], [f"{name}/cast"], name=f"{name}/cast", to=onnx.TensorProto.FLOAT)]
    steps = [("Sub", zero[0])] if zero and zero[0].any() else []
    for operator, constant in [*steps, ("Mul", scale)]:
        last, other = nodes[-1].output[0], f"{name}/{operator.lower()}"
        graph.initializer.append(numpy_helper.from_array(constant.reshape(shape).astype(np.float32), f"{other}/by"))
        nodes.append(helper.make_node(operator, [last, f"{other}/by"], [other], name=other))
    nodes[-1].output[0] = name
    return nodes
