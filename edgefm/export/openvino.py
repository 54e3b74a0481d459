"""An ONNX graph as OpenVINO IR: the same weights at the same precision, the same bytes every time.

Not compilation for a device: that happens where the model runs, with static shapes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from .onnx import onnx_entries

# OpenVINO and NNCF call home through this module where it is installed
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import openvino


def export_openvino(proto: onnx.ModelProto) -> tuple[bytes, bytes]:
    """The graph as IR: (xml, bin), float weights kept in fp32, dynamic batch, inputs and outputs named as in the ONNX graph."""
    with tempfile.TemporaryDirectory(prefix="edgefm-") as folder:
        model = read(proto, Path(folder))
        return serialize(model, Path(folder))


def openvino_entries(proto: onnx.ModelProto, prefix: str, graph: str = "encoder") -> dict[str, bytes]:
    """The IR as two bundle entries, `prefix/graph.xml` and `prefix/graph.bin`."""
    xml, weights = export_openvino(proto)
    return {f"{prefix}/{graph}.xml": xml, f"{prefix}/{graph}.bin": weights}


def read(proto: onnx.ModelProto, folder: Path) -> openvino.Model:
    """The graph as an OpenVINO model, through files in `folder`: a graph beyond 2 GiB has no other way in."""
    import openvino

    for name, data in onnx_entries(proto, "onnx").items():
        (folder / Path(name).name).write_bytes(data)
    return openvino.Core().read_model(folder / "encoder.onnx")


def serialize(model: openvino.Model, folder: Path) -> tuple[bytes, bytes]:
    """(xml, bin) of a model, its nodes renamed n0, n1, … in topological order: their own names differ from run to run."""
    import openvino

    for index, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"n{index}")
    openvino.save_model(model, folder / "ir.xml", compress_to_fp16=False)
    return (folder / "ir.xml").read_bytes(), (folder / "ir.bin").read_bytes()
