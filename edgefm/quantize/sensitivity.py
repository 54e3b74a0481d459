"""How much each layer's int8 disturbs the answer: the order in which layers go back to float.

Not the decision how many go back (`search.py`), and not accuracy: the answers are compared with fp32's, on calibration images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import onnx

from .bias import can_shift, square_error
from .execute import execute
from .layers import in_float, layers


@dataclass(frozen=True)
class Sensitivity:
    """A layer, and the error of the answer when it alone is int8.

    Attributes:
        layer: the node's name. error: root mean square over images, in standard deviations of fp32's answers; about its mean
            where the last bias takes that up.
    """

    layer: str
    error: float


def rank(
    int8: onnx.ModelProto, fp32: onnx.ModelProto, images: np.ndarray, stop: float = float("inf")
) -> list[Sensitivity] | None:
    """The layers of the int8 graph, the most sensitive first, those without effect left out.

    Args:
        int8: what `quantize_onnx` made of `fp32`.
        images: prepared, float32 `[n, C, S, S]`: calibration images.
        stop: when to give up, on `time.monotonic`'s clock.

    Returns:
        None if it took longer than `stop`.
    """
    names = layers(int8, fp32)
    answer = fp32.graph.output[0].name  # the logits, or the embedding where there are none
    reference = execute(fp32, images)[answer].astype(np.float64)
    spread = max(float(reference.std()), float(np.finfo(np.float32).tiny))
    shifts = can_shift(fp32, len(images))
    found = []
    for name in names:
        if time.monotonic() > stop:
            return None
        alone = in_float(int8, fp32, [other for other in names if other != name])
        found.append(Sensitivity(name, float(np.sqrt(square_error(alone, images, reference, shifts))) / spread))
    return sorted((each for each in found if each.error > 0), key=lambda each: -each.error)
