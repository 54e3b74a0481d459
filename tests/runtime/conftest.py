"""Small bundles with known answers, made here from a graph of four nodes: the runtime's tests need no export and no torch."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefm.bundle import write_bundle
from edgefm.runtime import select
from edgefm.runtime.preprocess import Preprocessor
from edgefm.spec.manifest import Golden, Graph, Manifest, Tensor, Variant
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import Task, make_task

SIZE, WIDTH = 16, 24
SPEC = Preprocess(size=SIZE, resize_to=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
MakeBundle = Callable[..., Path]
Timed = list[str]
BLACK = np.zeros((4, 4), np.uint8)
FOUR = ("openvino-fp32", "onnx-fp32", "openvino-int8", "onnx-int8")
TASKS = {
    "binary": make_task("binary", ("normal", "pneumonia")),
    "multiclass": make_task("multiclass", ("a", "b", "c")),
    "multilabel": make_task("multilabel", ("effusion", "mass", "nodule", "hernia")),
    "embedding": make_task("embedding"),
}


def graph(outputs: int, *, scale: float = 1.0) -> Any:
    """images [N, 3, 16, 16] -> conv, relu, mean over the picture = embedding [N, 24] -> logits [N, `outputs`]."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(outputs)
    weights = {
        "kernel": random.normal(0, 0.5, (WIDTH, 3, 5, 5)).astype(np.float32),
        "head": np.clip(random.normal(0, 2.0, (WIDTH, max(outputs, 1))) * scale, -3e38, 3e38).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["mixed"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["mixed"], ["rectified"]),
        helper.make_node("ReduceMean", ["rectified"], ["embedding"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
    ]
    names = ["embedding"] if not outputs else ["logits", "embedding"]
    if not outputs:
        nodes.pop()
        weights.pop("head")
    made = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", outputs if name == "logits" else WIDTH])
            for name in names
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def onnx_files(proto: Any) -> dict[str, bytes]:
    """The graph, and beside it the weights of at least 1 KiB."""
    from onnx import TensorProto, numpy_helper

    blob = b""
    for tensor in proto.graph.initializer:
        raw = numpy_helper.to_array(tensor).tobytes()
        if len(raw) < 1024:
            continue
        blob += b"\0" * (-len(blob) % 64)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "encoder.weights"), ("offset", len(blob)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        blob += raw
    return {"encoder.onnx": proto.SerializeToString(), "encoder.weights": blob}


def openvino_files(proto: Any, folder: Path) -> dict[str, bytes]:
    import openvino

    openvino.save_model(openvino.convert_model(io.BytesIO(proto.SerializeToString())), folder / "m.xml", compress_to_fp16=False)
    return {"encoder.xml": (folder / "m.xml").read_bytes(), "encoder.bin": (folder / "m.bin").read_bytes()}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def golden_pixels() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    return {
        "grey8": random.integers(0, 256, (23, 31), np.uint8),
        "grey16": random.integers(0, 65536, (40, 16), np.uint16),
        "colour1x1": random.integers(0, 256, (1, 1, 3), np.uint8),
    }


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """make_bundle(kind="binary", variants=(…), scale=1.0, wrong=(), …) writes a bundle, once per arguments.

    `scale` multiplies the head's weights: 1e38 makes logits that overflow. Variants in `wrong` get another head than the golden
    outputs say, as an engine that computes wrongly on this machine would.
    """
    made: dict[Any, Path] = {}

    def make(
        kind: str = "binary",
        variants: tuple[str, ...] = ("openvino-fp32", "onnx-fp32"),
        *,
        bf16: bool | None = None,
        refused: str | None = None,
        scale: float = 1.0,
        wrong: tuple[str, ...] = (),
        task: Task | None = None,
        golden: bool = True,
    ) -> Path:
        key = (kind, variants, bf16, refused, scale, wrong, task, golden)
        if key not in made:
            folder = tmp_path_factory.mktemp("bundle")
            made[key] = _write(folder, task or TASKS[kind], variants, bf16, refused, scale, wrong, golden)
        return made[key]

    return make


def _write(
    folder: Path,
    task: Task,
    variants: tuple[str, ...],
    bf16: bool | None,
    refused: str | None,
    scale: float,
    wrong: tuple[str, ...],
    golden: bool,
) -> Path:
    count = len(task.labels)
    entries: dict[str, bytes] = {}
    listed = []
    names = ("logits", "embedding") if count else ("embedding",)
    for name in variants:
        engine, _, precision = name.partition("-")
        proto = graph(count, scale=scale if name not in wrong else -1.0)
        files = openvino_files(proto, folder) if engine == "openvino" else onnx_files(proto)
        entries |= {f"variants/{name}/{file}": data for file, data in files.items()}
        encoder = Graph(
            files=tuple(f"variants/{name}/{file}" for file in files),
            inputs=(Tensor(name="images", shape=(-1, 3, SIZE, SIZE)),),
            outputs=tuple(Tensor(name=out, shape=(-1, count if out == "logits" else WIDTH)) for out in names),
        )
        half = bf16 if name == "openvino-fp32" else None
        listed.append(Variant(name=name, engine=engine, precision=precision, graphs={"encoder": encoder}, bf16=half))  # type: ignore[arg-type]
    inputs = []
    for name, pixels in golden_pixels().items() if golden else ():
        expected = reference(count, Preprocessor(SPEC)(pixels)[None], scale=scale)
        entries |= {f"golden/{name}.npy": npy(pixels)}
        entries |= {f"golden/{name}-{out}.npy": npy(value[0]) for out, value in expected.items()}
        inputs.append(
            Golden(name=name, pixels=f"golden/{name}.npy", outputs={out: f"golden/{name}-{out}.npy" for out in expected})
        )
    manifest = Manifest(name="small", edgefm="0", task=task, variants=tuple(listed), golden=tuple(inputs), refused=refused)
    out = folder / "small.efm"
    write_bundle(out, manifest, SPEC, entries)
    return out


def reference(outputs: int, tensor: np.ndarray, *, scale: float = 1.0) -> dict[str, np.ndarray]:
    """The graph by plain numpy in float64: float32 [N, …] per output."""
    from onnx import numpy_helper

    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in graph(outputs, scale=scale).graph.initializer}
    padded = np.pad(tensor.astype(np.float64), ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(2, 3))
    mixed = np.einsum("nchwij,ocij->nohw", windows, weights["kernel"])
    embedding = np.maximum(mixed, 0).mean(axis=(2, 3))
    with np.errstate(over="ignore", invalid="ignore"):
        answer = {"logits": embedding @ weights["head"]} if outputs else {}
        return {name: value.astype(np.float32) for name, value in {**answer, "embedding": embedding}.items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Timed]:
    """timed(onnx=5, openvino=3) replaces the clock: milliseconds by engine and precision; returns who was timed, in order."""

    def replace(**milliseconds: float) -> Timed:
        seen: Timed = []

        def clock(engine: object, tensor: np.ndarray) -> float:
            assert tensor.shape == (1, 3, 16, 16)
            name = f"{'onnx' if type(engine).__name__ == 'OnnxRuntime' else 'openvino'}_{engine.precision}"  # type: ignore[attr-defined]
            seen.append(name)
            return milliseconds[name]

        monkeypatch.setattr(select, "_time", clock)
        return seen

    return replace


@pytest.fixture(autouse=True)
def _no_variant_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFM_VARIANT", raising=False)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Ten good image files of several kinds and sizes."""
    random = np.random.default_rng(3)
    paths = []
    for number, (shape, suffix) in enumerate(
        [((1, 1), "png"), ((9, 200), "png"), ((30, 20, 3), "jpg"), ((17, 16), "bmp"), ((64, 48, 4), "png")] * 2
    ):
        path = tmp_path / f"{number}.{suffix}"
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
        paths.append(path)
    return paths
