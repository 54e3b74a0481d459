"""A torch model as one ONNX graph: fp32, dynamic batch, stripped, the same bytes every time.

Not preprocessing (`preprocess_graph.py`) and not the proof that the graph answers like the model (`parity` in `gate.py`).

    images [N, C, S, S] ──▶ encoder ──▶ logits [N, K] (unless the task is an embedding), embedding [N, D]
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import numpy_helper

from ..errors import InputError
from ..models import LoadedModel

OPSET = 20
ALIGNMENT = 64
EXTERNAL = 1024  # bytes; smaller initializers stay inside the graph, where shape inference can read them


class Encoder(torch.nn.Module):
    """A model with plain tensors as outputs, in the order of the ONNX graph: logits (if `with_logits`), then the embedding."""

    def __init__(self, model: torch.nn.Module, with_logits: bool) -> None:
        super().__init__()
        self.model = model
        self.with_logits = with_logits

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Float32 `[N, C, S, S]` to logits `[N, K]` and embedding `[N, D]`."""
        outputs = self.model(images)
        return (outputs.logits, outputs.embedding) if self.with_logits else (outputs.embedding,)


def export_onnx(model: LoadedModel) -> onnx.ModelProto:
    """The model as ONNX: opset 20, input `images` float32 `[batch, C, S, S]`, outputs `logits` (if any) and `embedding`.

    No metadata, no doc strings and no paths are left in it; two processes make the same bytes.

    Raises:
        InputError: a module in training mode (a submodule too), a frozen graph, a structure that cannot be traced, or a
            batch that is not dynamic.
    """
    program = trace(model)
    proto = program.model_proto
    strip(proto)
    _check_batch(proto, model.name)
    return proto


def trace(model: LoadedModel) -> torch.onnx.ONNXProgram:
    """The exporter's program: the ONNX graph, and the torch graph whose node names it keeps (`exported_program`).

    Raises:
        InputError: as `export_onnx`.
    """
    if model.kind != "torch":
        raise InputError(
            f"{model.name} is a frozen graph and cannot be exported",
            expected="a torch model",
            do="distil it into a student first",
        )
    check_mode(model.module, model.name)
    spec = model.preprocess
    names = ["embedding"] if model.task.kind == "embedding" else ["logits", "embedding"]
    example = torch.zeros(2, spec.channels, spec.size, spec.size)
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                Encoder(model.module, "logits" in names).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().splitlines()
            raise InputError(
                f"{model.name} cannot be traced by torch.export: {cause[0] if cause else type(error).__name__}",
                expected="a forward pass without Python branches on values, for any batch size",
            ) from error
    if program is None:
        raise InputError(f"{model.name} was traced to nothing")
    return program


def check_mode(module: torch.nn.Module, name: str) -> None:
    """Raise `InputError` if the module or any submodule is in training mode: dropout and batch norm would be exported so."""
    training = [path or "the model itself" for path, part in module.named_modules() if part.training]
    if training:
        shown = ", ".join(training[:3]) + (f" and {len(training) - 3} more" if len(training) > 3 else "")
        raise InputError(
            f"{name} is in training mode ({shown})",
            expected="evaluation mode in every part",
            do="call model.eval() before exporting",
        )


def strip(proto: onnx.ModelProto) -> None:
    """Remove, in place, what does not change an answer: metadata, doc strings (paths of this machine), inferred shapes."""
    graph = proto.graph
    graph.name = "encoder"
    proto.producer_name, proto.producer_version, proto.doc_string = "edgefm", "", ""
    del proto.metadata_props[:]
    del graph.metadata_props[:]
    del graph.value_info[:]
    graph.doc_string = ""
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        if part.metadata_props:
            del part.metadata_props[:]


def onnx_entries(proto: onnx.ModelProto, prefix: str, graph: str = "encoder") -> dict[str, bytes]:
    """The graph and its weights as two bundle entries, `prefix/graph.onnx` and `prefix/graph.weights`.

    Initializers of 1 KiB and more move to the weights file, each at a multiple of 64 bytes, in the order of the graph; their
    `location` is the weights file's bare name, so the pair is also a plain ONNX model with external data.
    """
    outer = onnx.ModelProto()
    outer.CopyFrom(proto)
    weights = bytearray()
    for tensor in outer.graph.initializer:
        raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        if len(raw) < EXTERNAL:
            continue
        weights += bytes(-len(weights) % ALIGNMENT)
        inner = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        inner.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", f"{graph}.weights"), ("offset", len(weights)), ("length", len(raw))):
            inner.external_data.add(key=key, value=str(value))
        weights += raw
        tensor.CopyFrom(inner)
    return {
        f"{prefix}/{graph}.onnx": outer.SerializeToString(deterministic=True),
        f"{prefix}/{graph}.weights": bytes(weights),
    }


def _check_batch(proto: onnx.ModelProto, name: str) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_param != "batch":
            raise InputError(
                f"{name}: `{value.name}` has {first.dim_value or first.dim_param} rows whatever the batch",
                expected="one row per image",
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress and warnings, silenced; an error still raises."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
