"""Small fp32 graphs with their int8 forms, made once per process: what NNCF and the exporter take seconds for. Not tests."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import onnx

from edgefm.data import load_data
from edgefm.export.onnx import export_onnx
from edgefm.quantize.calibrate import choose
from edgefm.quantize.nncf import quantize_onnx
from edgefm.runtime.preprocess import Preprocessor

from .conftest import DATA, TASK


class Pair(NamedTuple):
    """The graphs, and a few calibration images as they take them, float32 `[n, C, S, S]`."""

    fp32: onnx.ModelProto
    int8: onnx.ModelProto
    images: np.ndarray


@cache
def pair(name: str) -> Pair:
    """Of a timm model with random weights, its biases and batch norms included."""
    import torch

    from tests.export.small import build_small

    model = build_small(name, TASK)
    torch.manual_seed(0)
    with torch.no_grad():
        for key, value in model.module.named_parameters():
            if key.endswith("bias"):
                value.normal_(std=0.1)
    calibration = choose(load_data(DATA), Preprocessor(model.preprocess), 6, seed=0)
    proto = export_onnx(model)
    return Pair(proto, quantize_onnx(proto, calibration), np.concatenate(list(calibration)))
