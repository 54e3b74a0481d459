"""Frozen graphs as teachers: `.onnx`, `.xml` (OpenVINO IR), `.tflite`, `.efm`. No gradients, no weights to train.

Not students, and not the runtime of a bundle: this feeds prepared tensors to OpenVINO in float32 and pools what comes out.

| the graph | logits | embedding |
|---|---|---|
| with `tap` | none | that node, pooled (`pooling.py`) |
| outputs called "logits" or "embedding" | so called | so called |
| ends in a softmax or sigmoid | what goes into it | what its last matrix product or convolution takes |
| `labels.json` beside it (a list of names) | its first output | the same |
| else | none | its first output, pooled |

How pixels become the input: `.efm` says it itself. A graph that takes uint8 takes the pixels as they are, at the size it
states: mean 0, std 1/255. Any other needs `preprocess.json` beside it (the one of a bundle, `edgefm.Preprocess` as JSON).
Channels last or first is read off the input's shape. A graph with a fixed batch of 1 is fed one image at a time: reshaping its
batch can succeed and still answer one row only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino
import torch
from torch import nn

from ..errors import InputError
from ..spec.preprocess import Preprocess
from ..spec.task import Task, make_task
from .graph import Graph, graph_sha256
from .loaded import LoadedModel, Outputs, task_of
from .pooling import grid, pool

ONE_BY_ONE = "export it with a fixed batch of 1, or one that is really dynamic"


class FrozenGraph(nn.Module):
    """A graph that answers `Outputs`. Without parameters; tensors go through the CPU.

    Args:
        graph: what runs.
        logits, embedding: OpenVINO outputs of its model; `logits` None without a classifier.

    Raises:
        InputError: the graph wants a batch other than 1 or any, an input type other than uint8 or float, or cannot run.
    """

    tokens: bool = False  # see `encoder.py`

    def __init__(self, graph: Graph, logits: Any | None, embedding: Any) -> None:
        super().__init__()
        port = graph.model.inputs[0]
        shape = port.partial_shape
        self.path = graph.path
        self.channels_last, self.channels, self.size = _layout(shape, graph.path)
        self.whole_pixels = port.element_type == openvino.Type.u8
        if not self.whole_pixels and port.element_type not in (openvino.Type.f32, openvino.Type.f16):
            raise InputError(f"{graph.path} takes {port.element_type.get_type_name()}", expected="uint8, float16 or float32")
        if shape[0].is_static and shape[0].get_length() != 1:
            raise InputError(f"{graph.path} takes batches of {shape[0].get_length()} only", expected="1 or any batch")
        self.one_by_one = shape[0].is_static
        self.classifies = logits is not None
        self._compiled = _compile(graph, [embedding] if logits is None else [embedding, logits])

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> Outputs:
        """Float32 `[N, C, S, S]` to logits `[N, K]` or None, and embedding `[N, D]`, on the device of `x`."""
        pixels = x.detach().cpu()
        if self.channels_last:
            pixels = pixels.permute(0, 2, 3, 1)
        if self.whole_pixels:
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        batch = np.ascontiguousarray(pixels.numpy())
        pieces = [batch[row : row + 1] for row in range(len(batch))] if self.one_by_one else [batch]
        answers = [[torch.from_numpy(np.array(value, np.float32)) for value in self._run(piece)] for piece in pieces]
        embedding, *logits = (torch.cat(values).to(x.device) for values in zip(*answers))
        tokens = grid(embedding, None) if self.tokens else None
        return Outputs(logits[0].flatten(1) if logits else None, pool(embedding), tokens)

    def _run(self, piece: np.ndarray) -> list[np.ndarray]:
        try:
            found = self._compiled(piece)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"{self.path} fails on {len(piece)} images ({reason})", do=ONE_BY_ONE) from error
        values = [found[index] for index in range(len(found))]
        if any(value.shape[:1] != (len(piece),) for value in values):
            raise InputError(f"{self.path} answers {len(values[0])} rows for {len(piece)} images", do=ONE_BY_ONE)
        return values


def _compile(graph: Graph, outputs: list[Any]) -> Any:
    from ..runtime.cpu import usable_threads
    from ..runtime.engines.openvino import core

    settings = {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "INFERENCE_NUM_THREADS": usable_threads()}
    try:
        model = openvino.Model(outputs, graph.model.get_parameters(), "frozen")
        compiled = core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot run {graph.path} ({str(error).strip().splitlines()[-1]})") from error
    ran = compiled.get_property("INFERENCE_PRECISION_HINT")
    if ran != openvino.Type.f32:
        raise InputError(f"OpenVINO runs {graph.path} in {ran.get_type_name()}", expected="float32")
    return compiled


def _layout(shape: Any, path: Path) -> tuple[bool, int, int | None]:
    """Channels last?, channels, and the side in pixels or None where the graph leaves it open."""
    sizes = [size.get_length() if size.is_static else None for size in shape]
    last = sizes[1] not in (1, 3) and sizes[3] in (1, 3)
    channels = sizes[3] if last else sizes[1]
    height, width = sizes[1:3] if last else sizes[2:]
    if channels not in (1, 3) or height != width:
        raise InputError(f"{path} takes images of the shape {shape}", expected="1 or 3 channels and a square plane")
    return last, channels, height


def load_frozen(path: Path, *, tap: str | None = None, licence: str | None = None) -> LoadedModel:
    """Load a frozen graph as a teacher.

    Raises:
        InputError: an unreadable graph, a tap that it does not have, or nothing that says how pixels become its input.
    """
    if path.suffix == ".efm":
        from .bundle_teacher import load_bundle

        return load_bundle(path, tap=tap, licence=licence)
    graph = Graph(path)
    labels = _labels(path)
    if tap is not None:
        logits, embedding, task = None, graph.node(tap).output, make_task("embedding")
    else:
        logits, embedding, task = _answers(graph, labels)
    module = FrozenGraph(graph, logits, embedding).eval()
    return LoadedModel(
        module=module,
        preprocess=_preprocess(path, module),
        task=task,
        name=path.name,
        licence=licence or "unknown",
        sha256=graph_sha256(path),
        kind="frozen",
    )


def _answers(graph: Graph, labels: tuple[str, ...]) -> tuple[Any | None, Any, Task]:
    # What feeds a result, not the result: OpenVINO crashes on a model whose results are another model's results.
    named = {name: port.node.input(0).get_source_output() for port in graph.model.outputs for name in port.get_names()}
    first = graph.model.outputs[0].node.input(0).get_source_output()
    decision = graph.before_decision()
    multilabel = decision is not None and decision[1] == "Sigmoid"
    if "logits" in named or "embedding" in named:
        logits = named.get("logits")
        embedding = named.get("embedding", logits)
    elif decision is not None:
        logits = decision[0]
        embedding = graph.before_classifier(logits) or logits
    else:
        logits, embedding = (first if labels else None), first
    if logits is None:
        return None, embedding, make_task("embedding")
    classes = int(np.prod([size.get_length() for size in list(logits.get_partial_shape())[1:]]))
    if labels and len(labels) != classes:
        raise InputError(f"labels.json beside {graph.path} names {len(labels)} of {classes} classes", do="correct it")
    return logits, embedding, task_of(classes, labels, multilabel=multilabel)


def _labels(path: Path) -> tuple[str, ...]:
    file = path.parent / "labels.json"
    if not file.is_file():
        return ()
    try:
        return msgspec.json.decode(file.read_bytes(), type=tuple[str, ...])
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a list of label names ({error})", do="correct or remove it") from error


def _preprocess(path: Path, module: FrozenGraph) -> Preprocess:
    file = path.parent / "preprocess.json"
    if file.is_file():
        try:
            found = msgspec.json.decode(file.read_bytes(), type=Preprocess)
        except (OSError, ValueError) as error:
            raise InputError(f"{file} does not describe a preprocessing ({error})", do="correct it") from error
        if found.channels != module.channels or module.size not in (None, found.size):
            raise InputError(
                f"{file} makes tensors of {found.channels} x {found.size} x {found.size}, and {path} takes "
                f"{module.channels} x {module.size} x {module.size}",
                do="correct it",
            )
        return found
    if module.whole_pixels and module.size is not None:
        plain = (0.0,) * module.channels, (1 / 255,) * module.channels
        channels: Any = module.channels
        return Preprocess(channels=channels, size=module.size, resize_to=module.size, mean=plain[0], std=plain[1])
    raise InputError(
        f"{path} does not say how pixels become its input",
        expected='preprocess.json beside it, as in {"size": 224, "resize_to": 256, "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}',
        do="write it as the model's authors state it",
    )
