"""A graph that was tampered with: parity fails and names the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefm.errors import ParityError
from edgefm.export.fp32 import held_draft
from edgefm.export.golden import golden
from edgefm.export.locate import first_difference, locate, onnx_values, openvino_values, torch_values
from edgefm.export.onnx import export_onnx
from edgefm.models import LoadedModel
from edgefm.verify.parity import Expected

Build = Callable[..., LoadedModel]


@pytest.fixture(scope="module")
def model(build: Build) -> LoadedModel:
    return build("test_efficientnet")


@pytest.fixture(scope="module")
def proto(model: LoadedModel) -> onnx.ModelProto:
    return export_onnx(model)


@pytest.fixture(scope="module")
def pictures(model: LoadedModel) -> tuple[Expected, ...]:
    return golden(model)


def tampered(proto: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """The graph with one weight of `node` a fifth larger."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for tensor in changed.graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.2), tensor.name))
    return changed


def weighted(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    constants = {tensor.name for tensor in proto.graph.initializer}
    return [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants]


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_convnext"])
def test_no_node_of_a_good_export_differs_in_either_engine(build: Build, name: str) -> None:
    model = build(name)
    proto = export_onnx(model)
    prepared = np.random.default_rng(0).normal(size=(1, 3, model.preprocess.size, model.preprocess.size)).astype(np.float32)
    expected = torch_values(model, prepared)
    outputs = {name for node in proto.graph.node for name in node.output}
    assert len(outputs & set(expected)) > len(outputs) / 3
    for values in (onnx_values, openvino_values):
        found = values(proto, prepared, expected)
        assert set(found) == outputs & set(expected)
        assert first_difference(proto, expected, found) == ""


@pytest.mark.parametrize("place", [0, 5, -1])
def test_the_tampered_node_is_named(
    model: LoadedModel, proto: onnx.ModelProto, pictures: tuple[Expected, ...], place: int
) -> None:
    node = weighted(proto)[place]
    clause = locate(model, tampered(proto, node), pictures[2].prepared[None], "onnx")
    assert f"node {node.name} ({node.op_type}) is the first" in clause


def test_export_stops_with_exit_4_at_a_tampered_graph(
    model: LoadedModel, proto: onnx.ModelProto, pictures: tuple[Expected, ...], tmp_path: Path
) -> None:
    node = weighted(proto)[3]
    said: list[str] = []
    with pytest.raises(ParityError, match=f"openvino-fp32 differs.*stage encoder.*node {node.name}") as error:
        held_draft(model, tampered(proto, node), pictures, tmp_path / "model.efm", report=said.append)
    assert error.value.exit_code == 4
    assert not said
    assert not list(tmp_path.iterdir())


def test_a_wrong_operator_is_named_too(model: LoadedModel, proto: onnx.ModelProto, pictures: tuple[Expected, ...]) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    node = next(node for node in changed.graph.node if node.op_type in ("Sigmoid", "Relu", "Mul"))
    name, node.op_type = node.name, {"Sigmoid": "Tanh", "Relu": "Neg", "Mul": "Add"}[node.op_type]
    assert name in locate(model, changed, pictures[2].prepared[None], "onnx")


def test_a_difference_outside_the_onnx_graph_is_said_to_be_there(
    model: LoadedModel, proto: onnx.ModelProto, pictures: tuple[Expected, ...]
) -> None:
    assert "OpenVINO's IR" in locate(model, proto, pictures[0].prepared[None], "openvino")
    assert "without optimisation" in locate(model, proto, pictures[0].prepared[None], "onnx")
