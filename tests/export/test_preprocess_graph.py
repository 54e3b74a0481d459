"""`preprocess.onnx` against the oracle, in ONNX Runtime and OpenVINO as a stranger would run them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefm.export.preprocess_graph import build_preprocess_graph
from edgefm.runtime.preprocess import prepare
from edgefm.spec.preprocess import Preprocess
from tests.runtime.preprocess_cases import DTYPES, LARGE, SIZES, SPECS, picture

onnx = pytest.importorskip("onnx")

GRAPH_TOLERANCE = 2e-5
Engine = Callable[[np.ndarray, int], np.ndarray]


def in_onnxruntime(graph: bytes) -> Engine:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(graph)
    return lambda pixels, bits: session.run(None, {"pixels": pixels, "bits": np.array(bits, np.int64)})[0]


def in_openvino(graph: bytes) -> Engine:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    model = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels, bits: model({"pixels": pixels, "bits": np.array(bits, np.int64)})[0].copy()


ENGINES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


@pytest.fixture(scope="module", params=[(name, engine) for name in SPECS for engine in ENGINES], ids=lambda p: f"{p[0]}-{p[1]}")
def prepared(request) -> tuple[Preprocess, Callable[[np.ndarray], np.ndarray]]:
    """A spec, and its graph in one engine as a function of uint8 or uint16 pixels."""
    name, engine = request.param
    run = ENGINES[engine](build_preprocess_graph(SPECS[name]).SerializeToString())

    def function(pixels: np.ndarray) -> np.ndarray:
        bits = 8 * pixels.dtype.itemsize
        return run(pixels.reshape(*pixels.shape[:2], -1).astype(np.uint16), bits)

    return SPECS[name], function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_graph_equals_the_oracle(prepared, channels, dtype):
    spec, run = prepared
    for size in SIZES:
        pixels = picture(size, channels, dtype)
        images = run(pixels)
        assert images.dtype == np.float32
        assert images.shape == (1, spec.channels, spec.size, spec.size)
        assert np.abs(images[0] - prepare(pixels, spec)).max() <= GRAPH_TOLERANCE, size


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint16), (3, np.uint8)])
@pytest.mark.parametrize("size", [*LARGE, (3001, 1)])
def test_the_graph_equals_the_oracle_on_large_and_long_images(prepared, size, channels, dtype):
    spec, run = prepared
    pixels = picture(size, channels, dtype)
    assert np.abs(run(pixels)[0] - prepare(pixels, spec)).max() <= GRAPH_TOLERANCE


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([1, 3, 4]), st.sampled_from(DTYPES))
def test_any_size_equals_the_oracle(small_graphs, height, width, channels, dtype):
    pixels = picture((height, width), channels, dtype)
    for spec, run in small_graphs:
        images = run(pixels.astype(np.uint16), 8 * pixels.dtype.itemsize)
        assert np.abs(images[0] - prepare(pixels, spec)).max() <= GRAPH_TOLERANCE


@pytest.fixture(scope="module")
def small_graphs() -> list[tuple[Preprocess, Engine]]:
    grey = {"channels": 1, "mean": (0.4,), "std": (0.3,)}
    specs = [
        Preprocess(size=31, resize_to=36, **grey),
        Preprocess(size=20, resize_to=33, resize="squash", window16=(10.5, 40000.0)),
        Preprocess(size=1, resize_to=1, filter="bilinear", **grey),
        Preprocess(size=3, resize_to=7, filter="bilinear"),
    ]
    return [(spec, in_onnxruntime(build_preprocess_graph(spec).SerializeToString())) for spec in specs]


def test_an_axis_that_keeps_its_length_is_left_exactly_as_it_is():
    for extra in (0, 32):
        spec = Preprocess(resize_to=224 + extra, mean=(0.0,) * 3, std=(1.0,) * 3)
        pixels = picture((224 + extra, 224 + extra), 3, np.uint8)
        half = extra // 2
        expected = pixels[half : half + 224, half : half + 224].transpose(2, 0, 1) / np.float32(255)
        for engine in ENGINES.values():
            images = engine(build_preprocess_graph(spec).SerializeToString())(pixels.astype(np.uint16), 8)
            assert np.abs(images[0] - expected).max() <= 6e-8


def test_eight_bit_pixels_are_not_windowed():
    spec = Preprocess(window16=(200.0, 300.0))
    run = in_onnxruntime(build_preprocess_graph(spec).SerializeToString())
    pixels = picture((60, 60), 3, np.uint8)
    assert np.abs(run(pixels.astype(np.uint16), 8)[0] - prepare(pixels, spec)).max() <= GRAPH_TOLERANCE
    assert np.abs(run(pixels.astype(np.uint16), 16)[0] - prepare(pixels.astype(np.uint16), spec)).max() <= GRAPH_TOLERANCE


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_graph_is_valid_and_states_its_shapes(spec):
    graph = build_preprocess_graph(spec)
    onnx.checker.check_model(graph, full_check=True)
    (images,) = graph.graph.output
    assert [dim.dim_value for dim in images.type.tensor_type.shape.dim] == [1, spec.channels, spec.size, spec.size]
    assert not any(node.op_type in ("Resize", "Loop", "If") for node in graph.graph.node)


def test_two_processes_make_the_same_bytes():
    code = (
        "import sys\n"
        "from edgefm.export.preprocess_graph import build_preprocess_graph\n"
        "from edgefm.spec.preprocess import Preprocess\n"
        "sys.stdout.buffer.write(build_preprocess_graph(Preprocess()).SerializeToString(deterministic=True))\n"
        "assert 'torch' not in sys.modules\n"
    )
    first, second = (subprocess.check_output([sys.executable, "-c", code]) for _ in range(2))
    assert first == second == build_preprocess_graph(Preprocess()).SerializeToString(deterministic=True)
