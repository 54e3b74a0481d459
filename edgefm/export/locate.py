"""Where an exported graph starts to differ from the model: the first node, in topological order, with another output.

Not the decision whether it differs (`verify/parity.py`): this is asked only afterwards.

The exporter names a graph's values after the nodes of the traced torch graph, so equal names mean equal tensors. The torch
graph is run node by node, the ONNX graph with those values as outputs: in ONNX Runtime without any optimisation, and, where
that shows nothing, in OpenVINO.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from ..models import LoadedModel
from ..verify.parity import LIMIT, in_deviations
from .onnx import trace
from .openvino import read


def locate(model: LoadedModel, proto: onnx.ModelProto, prepared: np.ndarray, engine: str) -> str:
    """The place as the end of a sentence: "; node N (Op) is the first whose output differs, …".

    Args:
        proto: the graph as exported. prepared: float32 `[1, C, S, S]`. engine: of the variant that failed.
    """
    expected = torch_values(model, prepared)
    place = first_difference(proto, expected, onnx_values(proto, prepared, expected))
    if place:
        return f"; {place}"
    if engine == "openvino":
        place = first_difference(proto, expected, openvino_values(proto, prepared, expected))
        return f"; in OpenVINO only, {place}" if place else "; no node of the ONNX graph differs, so it starts in OpenVINO's IR"
    return "; no node of the ONNX graph differs without optimisation, so it starts in what the engine makes of them together"


def first_difference(proto: onnx.ModelProto, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> str:
    """The first node with a differing output as a clause, or ""."""
    unknown: list[str] = []
    for node in proto.graph.node:
        for name in node.output:
            if name not in found or found[name].shape != expected[name].shape:
                unknown.append(node.name)
                continue
            off = float(np.max(in_deviations(found[name], expected[name]), initial=0.0))
            if not off <= LIMIT:
                before = _unknown_before(proto, node.name, set(unknown))
                since = f" (or {', '.join(before)} before it)" if before else ""
                return f"node {node.name} ({node.op_type}) is the first whose output differs{since}, by {off:.2g} std"
    return ""


def torch_values(model: LoadedModel, prepared: np.ndarray) -> dict[str, np.ndarray]:
    """Every float tensor of the traced torch graph by its node's name, the outputs by their ONNX names."""
    program = trace(model)
    exported = program.exported_program
    given = {"USER_INPUT": torch.from_numpy(prepared)}
    arguments = [
        given[spec.kind.name] if spec.kind.name in given else _constant(exported, spec.target)
        for spec in exported.graph_signature.input_specs
    ]
    recorder = _Recorder(exported.graph_module)
    with torch.no_grad():
        outputs = recorder.run(*arguments)
    names = [output.name for output in program.model_proto.graph.output]
    return {**recorder.values, **{name: value.numpy() for name, value in zip(names, outputs)}}


def onnx_values(proto: onnx.ModelProto, prepared: np.ndarray, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The wanted values of the graph, in ONNX Runtime, node by node as written."""
    exposed = _exposed(proto, wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": prepared})))


def openvino_values(proto: onnx.ModelProto, prepared: np.ndarray, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The wanted values of the graph, in OpenVINO, fp32."""
    from ..runtime.engines.openvino import core

    with tempfile.TemporaryDirectory(prefix="edgefm-") as folder:
        model = read(_exposed(proto, wanted), Path(folder))
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        result = compiled({"images": prepared})
        return {name: result[output] for output in compiled.outputs for name in output.get_names() if name in wanted}


class _Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps every float tensor that a node makes."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, np.ndarray] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and n.op == "call_function":
            self.values[n.name] = value.numpy()
        return value


def _constant(exported: torch.export.ExportedProgram, target: str | None) -> Any:
    return exported.state_dict[target] if target in exported.state_dict else exported.constants[str(target)]


def _exposed(proto: onnx.ModelProto, wanted: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The graph with every wanted value as an output."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(proto)
    known = {output.name for output in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name in wanted and name not in known:
                exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return exposed


def _unknown_before(proto: onnx.ModelProto, last: str, unknown: set[str]) -> list[str]:
    """Names of the nodes without a torch counterpart that feed `last` through nothing but their like, in the graph's order."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    queue = [node for node in proto.graph.node if node.name == last]
    found: set[str] = set()
    while queue:
        for name in queue.pop().input:
            maker = makers.get(name)
            if maker is not None and maker.name in unknown and maker.name not in found:
                found.add(maker.name)
                queue.append(maker)
    return [node.name for node in proto.graph.node if node.name in found]
