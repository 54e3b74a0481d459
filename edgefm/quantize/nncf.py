"""Int8 by NNCF: one ONNX graph with quantize and dequantize nodes, which both engines run.

Not the gate (`decide.py`) and not the choice of images (`calibrate.py`).

What was chosen, on DenseNet-121 and 1,211 test radiographs (error of the logits in units of their standard deviation):

- One graph for both engines: it errs as much as a graph per engine does (0.221 and 0.220 at NNCF's defaults), and then the two
  engines cannot decide differently by more than rounding.
- Ranges from the smallest and largest value over all calibration images, not from the mean of each image's: 0.009 instead of
  0.22, and 2 decisions changed instead of 9. The mean cuts off what only some images have.
- Weights in 7 of the 8 bits ("overflow fix" everywhere): processors without VNNI add two products in 16 bits and saturate.
  On such one (AVX2) 8-bit weights err by 0.060, these by 0.008; on one with VNNI by 0.008 both.
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


def quantize_onnx(proto: onnx.ModelProto, calibration: Calibration, *, histograms: bool = False) -> onnx.ModelProto:
    """The graph with int8 weights and activations, stripped, the same bytes for the same images.

    Args:
        proto: fp32, input `images`; left as it is.
        histograms: ranges that make the error least on a histogram of each activation, not those that hold everything.
    """
    with _quiet():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

        source = onnx.ModelProto()
        source.CopyFrom(proto)
        quantized = nncf.quantize(
            source,
            nncf.Dataset(calibration, lambda image: {"images": image}),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if is_transformer(proto) else None,
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,
                activations_range_estimator_params=Ranges.HISTOGRAM if histograms else Ranges.MINMAX,
            ),
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
