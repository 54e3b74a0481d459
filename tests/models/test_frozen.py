"""Frozen graphs as teachers: fed in their own layout and type, named stably, cut at a node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgefm.errors import InputError
from edgefm.models import list_taps, load_model
from edgefm.spec.preprocess import Preprocess

X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
CONTRACT = {"size": 8, "resize_to": 8, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def graph(
    file: Path,
    *,
    batch: int | str = "N",
    last: str | None = "Softmax",
    names: tuple[str, ...] = ("answer",),
    dtype: int = TensorProto.FLOAT,
    channels_last: bool = False,
    flaw: str = "",
) -> Path:
    """A small convnet: Conv 3x3 to 6 channels, Relu ("features"), mean, Gemm-like head to 4, and `last`."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(6, 3, 3, 3)),
        "v": random.normal(size=(6, 4)),
        "b": random.normal(size=4),
    }
    shape = [batch, 8, 8, 3] if channels_last else [batch, 3, 8, 8]
    nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)]
    order = [0, 3, 1, 2] if channels_last else [0, 1, 2, 3]
    nodes.append(helper.make_node("Transpose", ["float"], ["planes"], perm=order))
    nodes.append(helper.make_node("Conv", ["planes", "w"], ["conv"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["conv"], ["features"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["features"], ["mean"]))
    initializers = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([1 if flaw == "reshaped" else 0, 6], np.int64), "flat"))
    initializers.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    nodes.append(helper.make_node("Reshape", ["mean", "flat"], ["vector"]))
    nodes.append(helper.make_node("Gather", ["vector", "first"], ["row"], axis=0))
    nodes.append(helper.make_node("MatMul", ["row" if flaw == "first row" else "vector", "v"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "b"], ["sum" if last else names[0]]))
    if last:
        nodes.append(helper.make_node(last, ["sum"], [names[0]]))
    outputs = [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, None)]
    if len(names) > 1:
        nodes.append(helper.make_node("Identity", ["vector"], [names[1]]))
        outputs.append(helper.make_tensor_value_info(names[1], TensorProto.FLOAT, None))
    inputs = [helper.make_tensor_value_info("images", dtype, shape)]
    made = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return file


def contract(folder: Path, **fields: Any) -> None:
    (folder / "preprocess.json").write_text(json.dumps(CONTRACT | fields))


def reference(file: Path, x: np.ndarray, *tensors: str) -> list[np.ndarray]:
    """What ONNX Runtime computes at those tensors."""
    model = onnx.load(file)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": x})  # type: ignore[no-any-return]


def test_a_graph_that_ends_in_a_softmax_gives_the_logits_before_it(tmp_path: Path) -> None:
    file = graph(tmp_path / "net.onnx")
    contract(tmp_path)
    loaded = load_model(file)
    logits, embedding, _ = loaded.module(X)
    expected = reference(file, X.numpy(), "sum", "vector")
    np.testing.assert_allclose(logits, expected[0], atol=1e-5)
    np.testing.assert_allclose(embedding, expected[1], atol=1e-5)
    assert (loaded.kind, loaded.task.kind, loaded.task.labels) == ("frozen", "multiclass", ("0", "1", "2", "3"))
    assert loaded.preprocess == Preprocess(size=8, resize_to=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert not list(loaded.module.parameters())


def test_a_graph_that_ends_in_a_sigmoid_is_multilabel(tmp_path: Path) -> None:
    contract(tmp_path)
    (tmp_path / "labels.json").write_text('["a", "b", "c", "d"]')
    task = load_model(graph(tmp_path / "net.onnx", last="Sigmoid")).task
    assert (task.kind, task.labels) == ("multilabel", ("a", "b", "c", "d"))


def test_outputs_with_our_names_are_what_they_say(tmp_path: Path) -> None:
    contract(tmp_path)
    file = graph(tmp_path / "net.onnx", last=None, names=("logits", "embedding"))
    logits, embedding, _ = load_model(file).module(X)
    expected = reference(file, X.numpy(), "logits", "vector")
    np.testing.assert_allclose(logits, expected[0], atol=1e-5)
    np.testing.assert_allclose(embedding, expected[1], atol=1e-5)


def test_a_nameless_output_is_an_embedding_unless_labels_lie_beside_it(tmp_path: Path) -> None:
    contract(tmp_path)
    file = graph(tmp_path / "net.onnx", last=None)
    assert load_model(file).module(X).logits is None
    (tmp_path / "labels.json").write_text('["a", "b", "c", "d"]')
    loaded = load_model(file)
    np.testing.assert_allclose(loaded.module(X).logits, reference(file, X.numpy(), "answer")[0], atol=1e-5)
    (tmp_path / "labels.json").write_text('["a", "b"]')
    with pytest.raises(InputError, match="names 2 of 4 classes"):
        load_model(file)
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(InputError, match="not a list of label names"):
        load_model(file)


def test_a_tap_gives_that_nodes_features_pooled_and_no_logits(tmp_path: Path) -> None:
    contract(tmp_path)
    file = graph(tmp_path / "net.onnx")
    loaded = load_model(file, tap="features")
    logits, embedding, _ = loaded.module(X)
    assert logits is None
    assert loaded.task.kind == "embedding"
    np.testing.assert_allclose(embedding, reference(file, X.numpy(), "features")[0].mean(axis=(2, 3)), atol=1e-5)


def test_uint8_channels_last_and_a_batch_of_one_are_fed_as_they_want(tmp_path: Path) -> None:
    file = graph(tmp_path / "net.onnx", batch=1, dtype=TensorProto.UINT8, channels_last=True)
    loaded = load_model(file)
    assert loaded.preprocess == Preprocess(size=8, resize_to=8, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    pixels = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    logits = loaded.module(pixels + torch.tensor(0.4)).logits
    rows = [reference(file, row[None].permute(0, 2, 3, 1).numpy().astype(np.uint8), "sum")[0] for row in pixels]
    np.testing.assert_allclose(logits, np.concatenate(rows), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("flaw", ["reshaped", "first row"])
def test_a_graph_that_cannot_take_a_batch_says_so(tmp_path: Path, flaw: str) -> None:
    contract(tmp_path)
    loaded = load_model(graph(tmp_path / "net.onnx", flaw=flaw))
    with pytest.raises(InputError, match=r"3 images.*Export it with a fixed batch of 1"):
        loaded.module(X)


def test_an_ir_keeps_its_names(tmp_path: Path) -> None:
    contract(tmp_path)
    model = openvino.convert_model(graph(tmp_path / "net.onnx"))
    openvino.save_model(model, tmp_path / "net.xml", compress_to_fp16=False)
    first, second = list_taps(tmp_path / "net.xml"), list_taps(tmp_path / "net.xml")
    assert first == second
    relu = next(tap for tap in first if tap.kind == "Relu")
    assert relu.shape == (-1, 6, 8, 8)
    embedding = load_model(tmp_path / "net.xml", tap=relu.name).module(X).embedding
    np.testing.assert_allclose(
        embedding, reference(tmp_path / "net.onnx", X.numpy(), "features")[0].mean(axis=(2, 3)), atol=1e-5
    )
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InputError, match="OpenVINO cannot read"):
        load_model(tmp_path / "net.xml")


def test_taps_leave_mere_reshaping_out(tmp_path: Path) -> None:
    taps = list_taps(graph(tmp_path / "net.onnx"))
    assert [(tap.name, tap.shape) for tap in taps if tap.name in ("features", "float", "planes", "vector")] == [
        ("features", (-1, 6, 8, 8))
    ]


def test_a_tap_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    contract(tmp_path)
    with pytest.raises(InputError, match=r"has no node 'featurs'; expected one of features"):
        load_model(graph(tmp_path / "net.onnx"), tap="featurs")


def test_a_graph_that_does_not_say_how_pixels_become_its_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not say how pixels become its input; expected preprocess.json beside it"):
        load_model(graph(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    "fields", [{"size": 16, "resize_to": 16}, {"channels": 1, "mean": [0.5], "std": [0.5]}, {"zeal": 1}], ids=str
)
def test_a_contract_that_does_not_fit_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    contract(tmp_path, **fields)
    with pytest.raises(InputError, match=r"preprocess.json"):
        load_model(graph(tmp_path / "net.onnx"))


def test_a_fixed_batch_other_than_one_is_refused(tmp_path: Path) -> None:
    contract(tmp_path)
    with pytest.raises(InputError, match="batches of 4 only"):
        load_model(graph(tmp_path / "net.onnx", batch=4))


def test_an_antialiased_resize_is_refused_because_openvino_does_not_do_it(tmp_path: Path) -> None:
    file = graph(tmp_path / "net.onnx")
    model = onnx.load(file)
    scales = numpy_helper.from_array(np.array([1, 1, 0.5, 0.5], np.float32), "scales")
    model.graph.initializer.append(scales)
    resize = helper.make_node("Resize", ["features", "", "scales"], ["small"], antialias=1, mode="linear")
    model.graph.node.append(resize)
    onnx.save(model, file)
    with pytest.raises(InputError, match="antialias=1, which OpenVINO reads and does not do"):
        load_model(file)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite", ".efm"])
def test_what_is_no_graph_is_refused(tmp_path: Path, suffix: str) -> None:
    for content in (b"", b"no graph at all", b"\x08\x0a" * 50):
        (tmp_path / f"net{suffix}").write_bytes(content)
        with pytest.raises(InputError):
            load_model(tmp_path / f"net{suffix}")


def test_a_graph_with_two_inputs_is_refused(tmp_path: Path) -> None:
    file = graph(tmp_path / "net.onnx")
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 4]))
    model.graph.node.append(helper.make_node("Identity", ["mask"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    onnx.save(model, file)
    with pytest.raises(InputError, match="expected one image tensor"):
        load_model(file)


TFLITE = "weights/mobilenet_v2_int8.tflite"


@pytest.mark.slow
def test_the_real_tflite_has_the_same_names_however_often_it_is_read(real_data: Path) -> None:
    first, second = list_taps(real_data / TFLITE), list_taps(real_data / TFLITE)
    assert first == second
    code = "import sys; from edgefm.models import list_taps; print(*[tap.name for tap in list_taps(sys.argv[1])], sep='\\n')"
    fresh = subprocess.check_output([sys.executable, "-c", code, str(real_data / TFLITE)], text=True)
    assert fresh.splitlines() == [tap.name for tap in first]


def last_features(file: Path) -> str:
    """The 7 x 7 x 1280 activation before the head, by kind and shape: its name belongs to a version of OpenVINO."""
    return next(tap.name for tap in list_taps(file) if tap.kind == "Clamp" and tap.shape == (-1, 1280, 7, 7))


@pytest.mark.slow
def test_the_real_tflites_features_are_those_of_plain_openvino(real_data: Path) -> None:
    file = real_data / TFLITE
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    loaded = load_model(file, tap=last_features(file))
    embedding = loaded.module(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).embedding
    core = openvino.Core()
    model = core.read_model(file)
    clamp = [op for op in model.get_ordered_ops() if op.get_type_name() == "Clamp"][-1]
    plain = core.compile_model(
        openvino.Model([clamp.output(0)], model.get_parameters(), "plain"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(embedding, plain(pixels)[0].mean(axis=(2, 3)), atol=1e-4)
    assert loaded.task.kind == "embedding"
    assert loaded.preprocess.size == 224
    assert 0 <= embedding.min() < embedding.max() <= 6  # it ends in a ReLU6


@pytest.mark.slow
def test_the_real_tflite_without_a_tap_is_a_classifier_of_five(real_data: Path) -> None:
    loaded = load_model(real_data / TFLITE)
    logits, embedding, _ = loaded.module(torch.full((1, 3, 224, 224), 128.0))
    assert logits is not None
    assert (logits.shape, embedding.shape) == ((1, 5), (1, 32))
    assert loaded.task.kind == "multiclass"
