"""The engines that can run a variant: one file and one line in `ENGINES` each.

Not the choice between them (`runtime/select.py`). Nothing here imports an engine's library before it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np

from ... import __version__
from ...bundle import Bundle
from ...errors import BundleError, InputError, MissingExtra
from ...spec.manifest import Graph, Variant

Running = Literal["fp32", "bf16", "int8"]


class Engine(Protocol):
    """One variant, loaded. Safe to call from several threads.

    Attributes:
        precision: what really runs, read back from the engine where it can tell.
    """

    precision: Running

    def __init__(self, bundle: Bundle, variant: Variant, *, threads: int, precision: Running, batch: int = 1) -> None:
        """Load a variant.

        Args:
            threads: how many the engine may use.
            precision: "fp32" or "int8" as the variant is, or "bf16" to run an fp32 variant in bf16.
            batch: images per run of the graph, its static shape. An image's answer never depends on the others of its batch
                beyond rounding; with 1 it does not depend on them at all.
        """

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Run prepared images, float32 `[N, C, S, S]`, any N. Returns float32 "logits" `[N, K]` and "embedding" `[N, D]`."""


class Source(NamedTuple):
    """Where an engine comes from: module and class here, the library it needs, the extra that installs it, its name.

    `extra` is "" for what EdgeFM brings itself.
    """

    module: str
    cls: str
    library: str
    extra: str
    title: str


ENGINES = {
    "openvino": Source(".openvino", "OpenVINO", "openvino", "openvino", "OpenVINO"),
    "onnx": Source(".onnx", "OnnxRuntime", "onnxruntime", "onnx", "ONNX Runtime"),
    "native": Source(".native", "Native", "edgefm._native", "", "EdgeFM's own engine"),
}


def load_engine(name: str) -> type[Engine]:
    """The class of an engine.

    Raises:
        MissingExtra: its library is not installed.
        InputError: this EdgeFM has no such engine, or was built without its C++ module.
    """
    if name not in ENGINES:
        raise InputError(f"this EdgeFM has no engine {name!a}", expected=f"one of {', '.join(ENGINES)}", do="upgrade EdgeFM")
    source = ENGINES[name]
    if not installed(name) and not source.extra:
        raise InputError(f"this variant needs {source.title}, which was not built here", do=how_to_get(name))
    if not installed(name):
        raise MissingExtra(source.title, source.extra, "this variant")
    return cast("type[Engine]", getattr(import_module(source.module, __package__), source.cls))


def installed(name: str) -> bool:
    """Whether the engine's library can be found, without importing it."""
    try:
        return find_spec(ENGINES[name].library) is not None
    except (ImportError, ValueError):
        return False


def how_to_get(name: str) -> str:
    """What to do where the engine is missing, as a clause."""
    extra = ENGINES[name].extra
    return f"install it with: pip install 'edgefm[{extra}]'" if extra else "see what edgefm doctor says of the compiled module"


def version(name: str) -> str:
    """The installed version of the engine's library, e.g. "onnxruntime-1.31.1", without importing it; "" if it is not known.

    Read from the name of the `.dist-info` folder beside it: `importlib.metadata` would cost 10 ms at every start. EdgeFM's own
    engine has EdgeFM's version, and the kernels that it runs here, which a variable can hold back.
    """
    library = ENGINES[name].library
    if not ENGINES[name].extra:
        return f"edgefm-{__version__}-{os.environ.get('EDGEFM_ISA', '')}" if installed(name) else ""
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        return ""
    folders = Path(spec.origin).parent.parent.glob(f"{library}*.dist-info")
    return ",".join(sorted(folder.name.removesuffix(".dist-info") for folder in folders))


def encoder_of(bundle: Bundle, variant: Variant) -> Graph:
    """The graph that answers, its input held to the bundle's own preprocessing and its outputs to the task.

    Raises:
        BundleError: the manifest contradicts itself, or the variant has no graph called `encoder`.
    """
    graph, spec, task = variant.graphs.get("encoder"), bundle.preprocess, bundle.manifest.task
    if graph is None:
        raise BundleError(f"{variant.name} has no graph called encoder", expected="one in every variant", do="upgrade EdgeFM")
    inputs = [tensor.shape for tensor in graph.inputs]
    if inputs != [(-1, spec.channels, spec.size, spec.size)]:
        expected = str([-1, spec.channels, spec.size, spec.size])
        raise BundleError(f"{variant.name} takes {[list(shape) for shape in inputs]}", expected=f"one image tensor {expected}")
    outputs = {tensor.name: tensor.shape for tensor in graph.outputs}
    wanted = {} if task.kind == "embedding" else {"logits": (-1, len(task.labels))}
    if len(outputs) < len(graph.outputs) or {**outputs, **wanted} != outputs or outputs.keys() - {"logits", "embedding"}:
        raise BundleError(
            f"{variant.name} answers {outputs}", expected=f"what its {task.kind} task needs, {wanted or 'embedding'}"
        )
    if not outputs or any(len(shape) != 2 or shape[0] != -1 or shape[1] < 1 for shape in outputs.values()):
        raise BundleError(f"{variant.name} answers {outputs}", expected="outputs of the shape [-1, D]")
    return graph


def run_batches(
    graph: Graph, size: int, run: Callable[[np.ndarray], Iterator[np.ndarray]], batch: np.ndarray
) -> dict[str, np.ndarray]:
    """Run `batch` in pieces of exactly `size` images; the last one is filled up with zeros.

    Args:
        run: float32 `[size, C, S, S]` to the graph's outputs in their order, float32 `[size, …]` each.
        batch: float32 `[N, C, S, S]`.

    Raises:
        BundleError: the graph answers in another shape than the manifest says.
    """
    outputs = {out.name: np.empty((len(batch), *out.shape[1:]), np.float32) for out in graph.outputs}
    for start in range(0, len(batch), size):
        piece = np.ascontiguousarray(batch[start : start + size])
        count = len(piece)
        if count < size:
            piece = np.concatenate([piece, np.zeros((size - count, *piece.shape[1:]), np.float32)])
        for (name, whole), part in zip(outputs.items(), run(piece), strict=True):
            if part.shape != (size, *whole.shape[1:]):
                raise BundleError(
                    f"{name} came as {list(part.shape)}", expected=f"{[size, *whole.shape[1:]]}, as the manifest says"
                )
            whole[start : start + count] = part[:count]
    return outputs
