"""The IR: fp32, the same bytes each time, named as the ONNX graph; nobody is called home."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefm.export.onnx import export_onnx
from edgefm.export.openvino import export_openvino, openvino_entries

from .conftest import Build

WEIGHTS = np.random.default_rng(0).normal(size=(8, 600)).astype(np.float32)


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    """images [N, 8] -> logits [N, 600]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "weights"], ["logits"], name="/where/it/was/made")],
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 600])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_two_conversions_are_the_same_bytes_and_leave_the_graph_alone(proto: onnx.ModelProto) -> None:
    before = proto.SerializeToString(deterministic=True)
    assert export_openvino(proto) == export_openvino(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_weights_are_not_halved_and_no_name_of_a_node_stays(proto: onnx.ModelProto) -> None:
    xml, weights = export_openvino(proto)
    assert WEIGHTS.tobytes() in weights or WEIGHTS.T.tobytes() in weights
    assert b"where/it/was/made" not in xml
    assert b"/tmp" not in xml


def test_entries_are_the_graph_and_its_weights_and_run_for_any_batch(proto: onnx.ModelProto, tmp_path: Path) -> None:
    import openvino

    entries = openvino_entries(proto, "variants/openvino-fp32")
    assert list(entries) == ["variants/openvino-fp32/encoder.xml", "variants/openvino-fp32/encoder.bin"]
    for name, data in entries.items():
        (tmp_path / Path(name).name).write_bytes(data)
    model = openvino.Core().read_model(tmp_path / "encoder.xml")
    assert model.input("images").get_partial_shape()[0].is_dynamic
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 3):
        batch = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
        np.testing.assert_allclose(compiled({"images": batch})["logits"], batch @ WEIGHTS, atol=1e-5)


def test_telemetry_is_switched_off() -> None:
    assert sys.modules["openvino_telemetry"] is None


def test_the_ir_keeps_float_weights_in_fp32_and_its_nodes_are_numbered(build: Build) -> None:
    xml, weights = export_openvino(export_onnx(build()))
    text = xml.decode()
    assert 'element_type="f16"' not in text
    assert 'name="n0"' in text
    assert 'names="images"' in text
    assert str(Path.home()) not in text
    assert len(weights) > 3.5 * sum(value.numel() for value in build().module.parameters())  # equal constants are stored once


def test_the_xml_names_the_ends_and_nothing_between_them_and_has_no_idle_space(build: Build) -> None:
    xml, _ = export_openvino(export_onnx(build()))
    text = xml.decode()
    assert set(re.findall(r'names="([^"]*)"', text)) == {"images", "logits", "embedding"}
    assert not re.search(r">\s+<", text)


def test_a_shape_is_said_where_the_value_is_made_and_not_at_its_readers(build: Build) -> None:
    xml, _ = export_openvino(export_onnx(build()))
    inputs, outputs = re.findall(rb"<input>(.*?)</input>", xml), re.findall(rb"<output>(.*?)</output>", xml)
    assert inputs
    assert all(re.fullmatch(rb'(<port id="\d+"/>)+', each) for each in inputs)
    assert any(b"<dim>" in each for each in outputs)


def test_small_constants_of_equal_value_are_one(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["images", "one"], ["a"]),
            helper.make_node("Mul", ["a", "other"], ["b"]),
            helper.make_node("Add", ["b", "same"], ["logits"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in {"one": [1, 2, 3, 4], "other": [2, 2, 2, 3], "same": [1, 2, 3, 4]}.items()
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    xml, weights = export_openvino(proto)
    assert xml.count(b'type="Const"') == 2
    import openvino

    model = openvino.Core().read_model(xml, openvino.Tensor(np.frombuffer(weights, np.uint8)))
    answer = openvino.Core().compile_model(model, "CPU")({"images": np.ones((1, 4), np.float32)})["logits"]
    assert answer.tolist() == [[5.0, 8.0, 11.0, 19.0]]
