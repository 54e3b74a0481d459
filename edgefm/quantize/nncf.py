"""Int8 by NNCF: one ONNX graph with quantize and dequantize nodes, which both engines run.

Not the gate (`decide.py`), not the choice of images (`calibrate.py`), not what is tried where the gate says no (`search.py`).

What was chosen. Error of the logits in units of their standard deviation, and decisions changed, on images that calibrated
nothing: 238 radiographs at 224 px for DenseNet-121 and a MobileNetV3-small, 262 images of PneumoniaMNIST at 28 px for a ViT-Ti
(8 blocks, patches of 4), all three trained.

|                                              | DenseNet-121 | MobileNetV3-small | ViT-Ti   |
|---|---|---|---|
| this, in ONNX Runtime                        | 0.009, 0     | 0.064, 2          | 0.012, 0 |
| this, in OpenVINO                            | 0.009, 0     | 0.064, 1          | 0.012, 0 |
| the same settings on OpenVINO's own graph    |              | 0.067, 2          | 0.010, 1 |
| NNCF's defaults, on OpenVINO's own graph     | 0.22, 9 of 1,211 | 0.25, 2       | 0.11, 0  |
| ranges: mean of each image's ends            | 0.22         | 0.42, 14          | 0.10, 0  |
| ranges: mean of each image's 99.99 % ends    |              | 0.41, 9           | 0.11, 0  |
| ranges: least error on a histogram           | 0.025, 0     | 0.049, 3          | 0.011, 1 |
| depthwise inputs by tensor, not by channel   |              | 0.106, 2          |          |
| without SmoothQuant                          |              |                   | 0.010, 0 |

- One graph for both engines: it errs as much as a graph per engine does, and then the two engines cannot decide differently by
  more than rounding. ONNX Runtime makes some weights float at load, or it would fail (`unfused.py`).
- Ranges from the smallest and largest value over all calibration images, not from the mean of each image's, which cuts off
  what only some images have. No other way to choose them is better on all three models; the search takes those from histograms
  where they err less on calibration images.
- Weights in 7 of the 8 bits ("overflow fix" everywhere): processors without VNNI add two products in 16 bits and saturate.
  On such one (AVX2) 8-bit weights of the DenseNet err by 0.060, these by 0.008; on one with VNNI by 0.008 both.
- In a transformer only matrix products and convolutions read int8; norms, softmax, GELU and residual sums stay in float, and so
  do the gates of a MobileNet (squeeze and excitation). Their weights are stored as int8 all the same (`weights.py`).
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
from .layers import drop_unread
from .weights import drop_zero_points, pack_weights

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
    pack_weights(quantized)
    drop_zero_points(quantized)
    drop_unread(quantized.graph)
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
