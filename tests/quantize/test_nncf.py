"""What NNCF makes of a graph: int8 weights, float where a model needs it, nothing printed, same bytes."""

from __future__ import annotations

from collections import Counter

import onnx
import onnxruntime
import pytest

from edgefm.data import load_data
from edgefm.export.onnx import export_onnx
from edgefm.models import LoadedModel
from edgefm.quantize import nncf
from edgefm.quantize.calibrate import choose
from edgefm.quantize.nncf import is_transformer, quantize_onnx
from edgefm.runtime.preprocess import Preprocessor

from .conftest import DATA, TASK
from .small_graphs import pair

pytest.importorskip("nncf")


def quantized(model: LoadedModel) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    calibration = choose(load_data(DATA), Preprocessor(model.preprocess), 6, seed=0)
    proto = export_onnx(model)
    return proto, quantize_onnx(proto, calibration)


def readers(proto: onnx.ModelProto) -> Counter[str]:
    """How many values each kind of operator reads from a DequantizeLinear."""
    given = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return Counter(node.op_type for node in proto.graph.node for name in node.input if name in given)


def test_weights_become_int8_and_the_source_stays_as_it_was(model: LoadedModel, capfd: pytest.CaptureFixture[str]) -> None:
    proto, small = quantized(model)
    assert capfd.readouterr() == ("", "")
    assert not any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    kinds = {tensor.name: tensor.data_type for tensor in small.graph.initializer}
    weights = [
        kinds[node.input[0]] for node in small.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kinds
    ]
    assert set(weights) == {onnx.TensorProto.INT8}
    assert len(weights) > 0.7 * sum(node.op_type in ("Conv", "Gemm") for node in small.graph.node)
    assert [output.name for output in small.graph.output] == ["logits", "embedding"]
    assert small.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    session = onnxruntime.InferenceSession(small.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == "batch"
    for part in (small, *small.graph.node):
        assert not part.doc_string
        assert not part.metadata_props


def test_of_a_vit_only_products_are_int8_and_norms_softmax_gelu_and_residual_sums_stay_in_float() -> None:
    fp32, int8, _ = pair("test_vit")
    assert is_transformer(fp32)
    found = readers(int8)
    assert set(found) <= {"MatMul", "Gemm", "Conv", "Shape"}
    blocks = sum(node.op_type == "Softmax" for node in int8.graph.node)
    assert blocks
    assert found["MatMul"] >= 2 * 4 * blocks  # qkv, projection and two of the MLP, weights and what they multiply
    assert {"LayerNormalization", "Softmax", "Gelu", "Add"} <= {node.op_type for node in int8.graph.node}


def test_without_being_told_that_it_is_a_transformer_nncf_makes_sums_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    from tests.export.small import build_small

    monkeypatch.setattr(nncf, "is_transformer", lambda proto: False)
    _, int8 = quantized(build_small("test_vit", TASK))
    assert readers(int8)["Add"]


def test_a_mobilenet_keeps_its_gates_in_float_and_all_else_in_int8() -> None:
    """Squeeze and excitation: two convolutions on one pixel between a mean and a hard sigmoid cost nothing and err much."""
    fp32, int8, _ = pair("mobilenetv3_small_050")
    assert not is_transformer(fp32)
    nodes = {name: node for node in int8.graph.node for name in node.output}
    gates = [node for node in int8.graph.node if node.op_type == "HardSigmoid"]
    assert gates
    gated = set()
    for gate in gates:
        expand = nodes[gate.input[0]]
        reduce = nodes[nodes[expand.input[0]].input[0]]
        for node in (expand, reduce):
            assert node.op_type == "Conv"
            assert nodes[node.input[0]].op_type != "DequantizeLinear"
            gated.add(node.name)
    for node in int8.graph.node:
        if node.op_type == "Conv" and node.name not in gated:
            assert [nodes[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        if node.op_type == "HardSwish":  # in one piece with its convolution: nothing is rounded between them
            assert nodes[node.input[0]].op_type == "Conv"


def test_a_convolutional_net_is_no_transformer(model: LoadedModel) -> None:
    assert not is_transformer(export_onnx(model))
