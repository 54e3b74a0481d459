"""Names, taps and the ends of frozen graphs; what belongs to one file's hash. How they answer: test_frozen.py."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from edgefm.errors import InputError
from edgefm.models.graph import Graph, graph_sha256

from .test_frozen import graph


def test_a_node_that_is_not_there_and_one_that_cannot_be_pooled_are_refused(tmp_path: Path) -> None:
    found = Graph(graph(tmp_path / "net.onnx"))
    with pytest.raises(InputError, match=r"has no node 'featurs'; expected one of features.* edgefm inspect MODEL --taps"):
        found.node("featurs")
    with pytest.raises(InputError, match=r"has no node 'zzzz'; expected one of \w+, \w+, \w+"):
        found.node("zzzz")
    assert found.node("features").shape == (-1, 6, 8, 8)


def test_a_node_of_one_number_has_nothing_to_pool(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["images"], ["one"], keepdims=0), helper.make_node("Relu", ["images"], ["answer"])]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("one", "answer")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"the node one of .* has the shape \[\]; expected 2 to 4 dimensions"):
        Graph(tmp_path / "net.onnx").node("one")


def test_only_what_depends_on_the_image_is_a_node_in_the_order_of_the_computation(tmp_path: Path) -> None:
    names = list(Graph(graph(tmp_path / "net.onnx")).nodes)
    assert not {"w", "v", "b", "images"} & set(names)
    assert [name for name in names if name in ("conv", "features", "vector", "sum", "answer")] == [
        "conv",
        "features",
        "vector",
        "sum",
        "answer",
    ]


@pytest.mark.parametrize(("last", "kind"), [("Softmax", "Softmax"), ("Sigmoid", "Sigmoid"), ("Relu", None), (None, None)])
def test_the_decision_at_the_end_and_the_classifier_before_it_are_found(
    tmp_path: Path, last: str | None, kind: str | None
) -> None:
    found = Graph(graph(tmp_path / "net.onnx", last=last))
    ended = found.before_decision()
    if kind is None:
        assert ended is None
        return
    assert ended is not None
    logits, decision = ended
    assert decision == kind
    assert "sum" in logits.get_names()
    features = found.before_classifier(logits)
    assert tuple(features.get_partial_shape())[1].get_length() == 6


def test_a_graph_without_a_classifier_has_none(tmp_path: Path) -> None:
    found = Graph(graph(tmp_path / "net.onnx"))
    assert found.before_classifier(found.nodes["features"].output) is None


def test_an_ir_shows_the_same_names_however_often_graphs_were_read_before(tmp_path: Path) -> None:
    model = openvino.convert_model(graph(tmp_path / "net.onnx"))
    openvino.save_model(model, tmp_path / "net.xml")
    first = list(Graph(tmp_path / "net.xml").nodes)
    for _ in range(3):
        Graph(tmp_path / "net.onnx")
    assert list(Graph(tmp_path / "net.xml").nodes) == first


def test_the_hash_of_a_graph_covers_the_weights_beside_it_and_nothing_else(tmp_path: Path) -> None:
    inside = graph(tmp_path / "inside.onnx")
    assert graph_sha256(inside) == hashlib.sha256(inside.read_bytes()).hexdigest()
    proto = onnx.load(inside)
    outside = tmp_path / "outside.onnx"
    onnx.save(proto, outside, save_as_external_data=True, location="w.data", size_threshold=0)
    (tmp_path / "stranger.data").write_bytes(b"x")
    both = outside.read_bytes() + (tmp_path / "w.data").read_bytes()
    assert graph_sha256(outside) == hashlib.sha256(both).hexdigest()
    (tmp_path / "w.data").write_bytes(b"other")
    assert graph_sha256(outside) != hashlib.sha256(both).hexdigest()
    xml, weights = tmp_path / "net.xml", tmp_path / "net.bin"
    xml.write_bytes(b"<net/>")
    assert graph_sha256(xml) == hashlib.sha256(b"<net/>").hexdigest()
    weights.write_bytes(b"weights")
    assert graph_sha256(xml) == hashlib.sha256(b"<net/>weights").hexdigest()


def test_the_hash_of_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\xff\xff\xff")
    with pytest.raises(InputError, match=r"net\.onnx is not an ONNX file"):
        graph_sha256(tmp_path / "net.onnx")
