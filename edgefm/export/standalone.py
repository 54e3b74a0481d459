"""`export --standalone`: plain ONNX or OpenVINO with preprocessing and probabilities welded on, for people without EdgeFM.

Not a bundle: no hashes, no choice of variant. The folder holds the model, `labels.json` and a README whose code runs as it is.

    pixels, bits ──preprocess──▶ encoder ──▶ logits, embedding
                                         └──softmax or sigmoid──▶ probabilities
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, compose, helper, numpy_helper

from ..errors import InputError, ParityError
from ..models import LoadedModel
from ..partial import check_output_folder, partial_folder
from ..runtime.decide import probabilities
from ..spec.task import Task
from ..verify.parity import LIMIT, Expected
from .fp32 import Report, graph_inputs, load
from .golden import golden
from .onnx import export_onnx
from .openvino import export_openvino
from .preprocess_graph import build_preprocess_graph
from .readme import readme

Kind = Literal["onnx", "openvino"]
PREPROCESS = "preprocess/"
LARGEST = 2**31 - 2**20  # bytes; protobuf holds less than 2 GiB, and preprocessing takes some of it


def export_standalone(
    model: Any,
    kind: Kind,
    out: str | Path,
    *,
    licence: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    report: Report = print,
) -> Path:
    """Write a folder with the model for plain ONNX Runtime or plain OpenVINO.

    Inputs: `pixels` uint16 `[H, W, C]` (C = 1, 3 or 4, any size), `bits` int64 scalar, 8 or 16. Outputs: `probabilities`
    `[1, K]` and `logits` `[1, K]` (unless the task is an embedding), `embedding` `[1, D]`, float32.

    Args:
        model: any form of MODEL, or a `LoadedModel`.
        kind: "onnx" or "openvino".
        out: the folder to write. The rest as for `export`.

    Raises:
        InputError: as `export`.
        ParityError: the welded model does not answer as the model does, run as its README says.
    """
    out = Path(out)
    check_output_folder(out, force)
    loaded = load(model, licence=licence, trust_remote_code=trust_remote_code)
    proto = weld(loaded, export_onnx(loaded))
    with partial_folder(out, force=force) as folder:
        if kind == "onnx":
            (folder / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))
        else:
            xml, weights = export_openvino(proto)
            (folder / "model.xml").write_bytes(xml)
            (folder / "model.bin").write_bytes(weights)
        (folder / "labels.json").write_bytes(msgspec.json.encode(loaded.task.labels))
        (folder / "README.md").write_text(readme(loaded, kind), encoding="utf-8")
        off = difference(_runner(kind, folder), golden(loaded), loaded.task)
        if not off <= LIMIT:
            raise ParityError(
                f"the standalone {kind} model differs from {loaded.name} by {off:.2g}", expected=f"at most {LIMIT:g}"
            )
    report(f"{out} is written: answers as the model within {off:.1e} (at most {LIMIT:g}); its README shows ten lines of code")
    return out


def weld(model: LoadedModel, encoder: onnx.ModelProto) -> onnx.ModelProto:
    """Preprocessing, encoder and probabilities as one graph, for one image at a time.

    Raises:
        InputError: an encoder that one ONNX file cannot hold.
    """
    size = sum(len(tensor.raw_data) for tensor in encoder.graph.initializer)
    if size > LARGEST:
        raise InputError(
            f"{model.name} has {size / 2**30:.1f} GiB of weights",
            expected="less than 2 GiB, as much as one ONNX file holds",
            do="distil it into a student first, or export a bundle",
        )
    before = compose.add_prefix(build_preprocess_graph(model.preprocess), PREPROCESS, rename_inputs=False)
    welded = compose.merge_models(before, encoder, io_map=[(f"{PREPROCESS}images", "images")])
    graph = welded.graph
    graph.name = "edgefm"
    welded.producer_name, welded.doc_string = "edgefm", ""
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    if model.task.kind != "embedding":
        temperature = np.float32(model.task.temperature)
        graph.initializer.append(numpy_helper.from_array(np.asarray(temperature), "temperature"))
        graph.node.append(helper.make_node("Div", ["logits", "temperature"], ["scaled"], name="scaled"))
        rule = {"op_type": "Sigmoid"} if model.task.kind == "multilabel" else {"op_type": "Softmax", "axis": 1}
        graph.node.append(helper.make_node(inputs=["scaled"], outputs=["probabilities"], name="probabilities", **rule))
        shape = [1, len(model.task.labels)]
        graph.output.insert(0, helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    onnx.checker.check_model(welded)
    return welded


def difference(run: Callable[[np.ndarray], dict[str, np.ndarray]], pictures: Sequence[Expected], task: Task) -> float:
    """Largest |difference| of probabilities from pixels; of the embedding, in units of its std, for an embedding task."""
    worst = []
    for picture in pictures:
        outputs = run(picture.pixels)
        if task.kind == "embedding":
            expected = picture.outputs["embedding"]
            worst.append(np.abs(outputs["embedding"][0] - expected).max() / max(expected.std(), np.finfo(np.float32).tiny))
        else:
            expected = probabilities(picture.outputs["logits"][None], task)
            worst.append(np.abs(outputs["probabilities"] - expected).max())
    return float(np.max(worst))


def _runner(kind: Kind, folder: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The folder's model in its engine, with the settings that the README gives."""
    if kind == "onnx":
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda pixels: dict(zip(names, session.run(names, graph_inputs(pixels))))
    from ..runtime.engines.openvino import core

    compiled = core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: {output.any_name: value for output, value in compiled(graph_inputs(pixels)).items()}
