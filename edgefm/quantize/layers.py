"""The layers of an int8 graph, where their biases are, and the same graph with some layers back in float.

Not which of them should be (`sensitivity.py`), and not NNCF: the graph is changed as it stands, nothing is calibrated again.

A layer is a node of the fp32 graph that reads quantized values in the int8 graph: a convolution, a matrix product, a sum. NNCF
keeps the names of nodes and of float values, so a layer goes back to float by reading again what it reads in the fp32 graph.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def layers(int8: onnx.ModelProto, fp32: onnx.ModelProto) -> list[str]:
    """Names of the nodes that read quantized values, in the order of the graph.

    Args:
        int8: what `quantize_onnx` made of `fp32`.
    """
    quantized = {name for node in int8.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    known = {node.name for node in fp32.graph.node}
    return [
        node.name
        for node in int8.graph.node
        if node.name in known and node.op_type not in QUANTIZERS and quantized.intersection(node.input)
    ]


def bias_of(graph: onnx.GraphProto, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The node that adds a layer's bias, and which of its inputs the bias is; None where the layer has no place for one.

    A convolution and a Gemm add it themselves, as their third input, which may be absent. After a MatMul it is an Add.
    """
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return node, 2
    readers = [other for other in graph.node if node.output[0] in other.input]
    if node.op_type == "MatMul" and [reader.op_type for reader in readers] == ["Add"]:
        return added_bias(graph, readers[0])
    return None


def added_bias(graph: onnx.GraphProto, add: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The Add and which of its inputs is a bias: a constant vector; None where none is."""
    vectors = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 1}
    return next(((add, position) for position, name in enumerate(add.input) if name in vectors), None)


def in_float(int8: onnx.ModelProto, fp32: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The int8 graph with these layers as they are in `fp32`: weights, bias and inputs; the other layers as they are.

    Args:
        int8: what `quantize_onnx` made of `fp32`, its biases corrected or not; left as it is.
        names: of nodes, as `layers` gives them.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(int8)
    source = {node.name: node for node in fp32.graph.node}
    chosen = [node for node in changed.graph.node if node.name in names]
    quantized = {*layers(int8, fp32)}
    for node in chosen:
        _restore(changed.graph, node, fp32.graph, source[node.name])
        found = bias_of(changed.graph, node)
        if found is not None and found[0].name not in quantized:
            _restore(changed.graph, found[0], fp32.graph, source[found[0].name])
    drop_unread(changed.graph)
    return changed


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers whose values nothing reads."""
    read = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            read.update(node.input)
            nodes.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    nodes.reverse()
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _restore(graph: onnx.GraphProto, node: onnx.NodeProto, source: onnx.GraphProto, original: onnx.NodeProto) -> None:
    """Let `node` read what `original` reads. A constant that was changed under its own name comes under another."""
    there = {tensor.name: tensor for tensor in graph.initializer}
    floats = {tensor.name: tensor for tensor in source.initializer}
    del node.input[:]
    for name in original.input:
        if name in floats and there.get(name) != floats[name]:
            name, tensor = f"{name}/float", floats[name]
            if name not in there:
                graph.initializer.add().CopyFrom(tensor)
                graph.initializer[-1].name = name
        node.input.append(name)
