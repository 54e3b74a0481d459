"""Frozen graphs read by OpenVINO: their nodes under names that stay the same, and where their classifier begins.

Not their execution (`frozen.py`).

Names. An IR's nodes have names in the file; an ONNX graph's tensors too. TensorFlow Lite's names get lost in OpenVINO's
conversion, which calls nodes by a counter of the whole process: the same file read twice gives `Transpose_5528` and
`Transpose_12382`. Here the counter's value before the reading is taken off, so the names are those that a fresh process
shows; they still belong to one version of OpenVINO.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino

from ..bundle import Bundle
from ..errors import InputError
from .pooling import poolable

PASSING = ("Convert", "FakeQuantize", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Result")
BORING = (*PASSING, "Parameter", "Constant", "Pad", "ShapeOf", "Gather", "Concat", "StridedSlice", "Range", "Broadcast")
FLOATS = (openvino.Type.f32, openvino.Type.f16, openvino.Type.bf16)


class Node(NamedTuple):
    """An inner tensor of a graph. `shape` starts with the batch; -1 is a size that the file leaves open."""

    name: str
    kind: str
    shape: tuple[int, ...]
    output: Any


class Graph:
    """A frozen graph with one image input.

    Attributes:
        model: the `openvino.Model`.
        nodes: every tensor that depends on the image, by name, in topological order.

    Raises:
        InputError: OpenVINO cannot read the file, or its inputs are not one image tensor.
    """

    def __init__(self, path: Path, bundle: Bundle | None = None) -> None:
        self.path = path
        before = _counter()
        self.model = _read(path) if bundle is None else _read_member(bundle)
        if len(self.model.inputs) != 1 or len(self.model.inputs[0].partial_shape) != 4:
            shapes = ", ".join(str(port.partial_shape) for port in self.model.inputs)
            raise InputError(f"the inputs of {path} are {shapes}", expected="one image tensor of four dimensions")
        offset = before if path.suffix == ".tflite" else 0
        self.nodes: dict[str, Node] = {}
        self._moving = {self.model.inputs[0].node.get_friendly_name()}
        for op in self.model.get_ordered_ops():
            if any(port.get_source_output().node.get_friendly_name() in self._moving for port in op.inputs()):
                self._moving.add(op.get_friendly_name())
                for node in _named(op, path, offset):
                    self.nodes.setdefault(node.name, node)

    def taps(self) -> list[Node]:
        """The nodes worth distilling: float features `[N, D]`, `[N, T, D]` or of an image plane, without mere reshaping."""
        return [
            node
            for node in self.nodes.values()
            if node.kind not in BORING and poolable(node.shape) and node.output.get_element_type() in FLOATS
        ]

    def node(self, name: str) -> Node:
        """The node of that name.

        Raises:
            InputError: there is none, with the nearest names, or it has no features to pool.
        """
        if name not in self.nodes:
            near = difflib.get_close_matches(name, self.nodes, n=3) or [node.name for node in self.taps()[-3:]]
            raise InputError(
                f"{self.path} has no node {name!r}",
                expected=f"one of {', '.join(near)}",
                do="list all with: edgefm inspect MODEL --taps",
            )
        node = self.nodes[name]
        if not poolable(node.shape):
            raise InputError(f"the node {name} of {self.path} has the shape {list(node.shape)}", expected="2 to 4 dimensions")
        return node

    def before_decision(self) -> tuple[Any, str] | None:
        """The tensor before the softmax or sigmoid that the graph ends in, and which of the two; None where it does not."""
        op = self.model.outputs[0].node
        while op.get_type_name() in PASSING:
            op = self._feed(op).node
        kind = op.get_type_name()
        return (self._feed(op), kind) if kind in ("Softmax", "Sigmoid") else None

    def before_classifier(self, logits: Any) -> Any | None:
        """The tensor that the last matrix product or convolution before `logits` takes, or None where there is none."""
        op = logits.node
        while op.get_type_name() in (*PASSING, "Add", "Multiply", "Subtract"):
            op = self._feed(op).node
        return self._feed(op) if op.get_type_name() in ("MatMul", "Convolution") else None

    def _feed(self, op: Any) -> Any:
        sources = [port.get_source_output() for port in op.inputs()]
        return next((source for source in sources if source.node.get_friendly_name() in self._moving), sources[0])


def _named(op: Any, path: Path, offset: int) -> Iterator[Node]:
    for output in op.outputs():
        if op.get_type_name() == "Result" or output.get_partial_shape().rank.is_dynamic:
            continue
        shape = tuple(size.get_length() if size.is_static else -1 for size in output.get_partial_shape())
        names = sorted(output.get_names())
        if path.suffix != ".onnx":
            numbered = re.fullmatch(r"([A-Z][A-Za-z]*)_(\d+)", op.get_friendly_name()) if offset else None
            names.insert(0, f"{numbered[1]}_{int(numbered[2]) - offset}" if numbered else op.get_friendly_name())
        for name in names:
            yield Node(name, op.get_type_name(), shape, output)


def _counter() -> int:
    """The number of a constant made just now. A fresh process would have none, and number from where this one stands."""
    name: str = openvino.opset13.constant(0.0).get_friendly_name()
    return int(name.rpartition("_")[2])


def _read(path: Path) -> Any:
    if path.suffix == ".onnx":
        _refuse_antialias(path)
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"OpenVINO cannot read {path} ({reason})", do="check that the file and what belongs to it is whole"
        ) from error


def graph_sha256(path: Path) -> str:
    """SHA-256 of a graph's file; where its weights lie in files beside it (an IR's .bin), of the bytes of all, itself first."""
    beside = {path.with_suffix(".bin")} if path.suffix == ".xml" else set()
    if path.suffix == ".onnx":
        tensors = [tensor for tensor in _proto(path).graph.initializer if tensor.external_data]
        beside = {path.parent / pair.value for each in tensors for pair in each.external_data if pair.key == "location"}
    digest = hashlib.sha256()
    for file in [path, *sorted(file for file in beside if file.is_file())]:
        with open(file, "rb") as handle:
            while piece := handle.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def _proto(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public name
        raise InputError(f"{path} is not an ONNX file ({error})", do="export or copy it again") from error


def _refuse_antialias(path: Path) -> None:
    for node in _proto(path).graph.node:
        if node.op_type == "Resize" and any(attribute.name == "antialias" and attribute.i for attribute in node.attribute):
            raise InputError(
                f"{path} resizes with antialias=1, which OpenVINO reads and does not do",
                do="export the model without its preprocessing",
            )


def _read_member(bundle: Bundle) -> Any:
    for variant in bundle.manifest.variants:
        if variant.engine == "openvino" and variant.precision == "fp32":
            xml, weights = (bundle.view(name) for name in variant.graphs["encoder"].files)
            return openvino.Core().read_model(bytes(xml), openvino.Tensor(np.frombuffer(weights, np.uint8).copy()))
    raise InputError(f"{bundle.path} has no openvino-fp32 variant, whose nodes could be tapped", do="leave --tap out")
