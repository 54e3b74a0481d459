"""Int8 by NNCF: one ONNX graph with quantize and dequantize nodes, which both engines run.

Not the gate (`decide.py`) and not the choice of images (`calibrate.py`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

import onnx

from ..export.onnx import strip
from .calibrate import Calibration

# OpenVINO and NNCF call home through this module where it is installed
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def quantize_onnx(proto: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """The graph with int8 weights and activations, stripped, the same bytes for the same images.

    Args:
        proto: fp32, input `images`; left as it is.
    """
    with _quiet():
        import nncf

        source = onnx.ModelProto()
        source.CopyFrom(proto)
        quantized = nncf.quantize(
            source,
            nncf.Dataset(calibration, lambda image: {"images": image}),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if is_transformer(proto) else None,
        )
    strip(quantized)
    return quantized


def is_transformer(proto: onnx.ModelProto) -> bool:
    """Whether the graph has attention: then layer norm, softmax, GELU and residual sums stay in float."""
    return any(node.op_type == "Softmax" for node in proto.graph.node)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF's progress bars only where somebody watches, never on stdout; its log and torch's only from errors on."""
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
