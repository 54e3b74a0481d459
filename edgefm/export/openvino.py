"""An ONNX graph as OpenVINO IR: the same weights at the same precision, the same bytes every time.

Not compilation for a device: that happens where the model runs, with static shapes.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from .onnx import onnx_entries

# OpenVINO and NNCF call home through this module where it is installed
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import openvino

SMALL = 4096  # bytes


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
    """The graph as an OpenVINO model, through files in `folder`: a graph beyond 2 GiB has no other way in.

    Converted rather than only read: what the importer makes of shapes, biases and quantizers is put together here, once, and
    not on every device again. That was half of the time that it took to compile an int8 MobileNetV3.
    """
    import openvino

    for name, data in onnx_entries(proto, "onnx").items():
        (folder / Path(name).name).write_bytes(data)
    return openvino.convert_model(folder / "encoder.onnx")


def serialize(model: openvino.Model, folder: Path) -> tuple[bytes, bytes]:
    """(xml, bin) of a model, with nothing in it that no reader needs: of a small int8 model the xml is a third of the bytes.

    Nodes are called n0, n1, … in topological order (their own names differ from run to run), only inputs and outputs keep the
    names of their tensors, small constants of equal value are one, and the xml has no space between its elements and says the
    shape of a value where it is made, not again at each reader: OpenVINO infers it there anyway.
    """
    import openvino

    kept = {name for port in (*model.inputs, *model.outputs) for name in port.get_names()}
    _share_constants(model)
    for index, node in enumerate(model.get_ordered_ops()):
        for port in node.outputs():
            port.get_tensor().set_names(port.get_names() & kept)
        node.set_friendly_name(f"n{index}")
    openvino.save_model(model, folder / "ir.xml", compress_to_fp16=False)
    dense = re.sub(rb">\s+<", b"><", (folder / "ir.xml").read_bytes())
    return re.sub(rb"<input>.*?</input>", _bare_ports, dense), (folder / "ir.bin").read_bytes()


def _bare_ports(inputs: re.Match[bytes]) -> bytes:
    """The inputs of a layer, each with nothing but its number."""
    return (
        b"<input>" + b"".join(b'<port id="%s"/>' % each for each in re.findall(rb'<port id="(\d+)"', inputs[0])) + b"</input>"
    )


def _share_constants(model: openvino.Model) -> None:
    """Let everything that reads a small constant read the first one of the same value: a quantizer's ends come twice each."""
    first: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.data.nbytes > SMALL:
            continue
        value = node.data
        same = first.setdefault((str(node.get_element_type()), value.shape, value.tobytes()), node)
        for reader in node.output(0).get_target_inputs() if same is not node else ():
            reader.replace_source_output(same.output(0))
