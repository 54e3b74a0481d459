"""What NNCF makes of a graph: int8 weights, float where a vision transformer needs it, nothing printed, same bytes."""

from __future__ import annotations

from collections import Counter

import onnx
import onnxruntime
import pytest

from edgefm.data import load_data
from edgefm.export.onnx import export_onnx
from edgefm.models import LoadedModel
from edgefm.quantize.calibrate import choose
from edgefm.quantize.nncf import is_transformer, quantize_onnx
from edgefm.runtime.preprocess import Preprocessor

from .conftest import DATA, TASK

pytest.importorskip("nncf")


def quantized(model: LoadedModel) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    calibration = choose(load_data(DATA), Preprocessor(model.preprocess), 6, seed=0)
    proto = export_onnx(model)
    return proto, quantize_onnx(proto, calibration)


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


def test_layer_norm_softmax_gelu_and_residual_sums_of_a_vit_stay_in_float() -> None:
    from tests.export.small import build_small

    proto, small = quantized(build_small("test_vit", TASK))
    assert is_transformer(proto)
    maker = {name: node.op_type for node in small.graph.node for name in node.output}
    fed = Counter((node.op_type, maker.get(name)) for node in small.graph.node for name in node.input)
    for operator in ("LayerNormalization", "Softmax", "Gelu", "Add"):
        assert fed[operator, "DequantizeLinear"] == 0
    blocks = sum(node.op_type == "Softmax" for node in small.graph.node)
    assert fed["MatMul", "DequantizeLinear"] >= 2 * 4 * blocks


def test_a_convolutional_net_is_no_transformer(model: LoadedModel) -> None:
    assert not is_transformer(export_onnx(model))
