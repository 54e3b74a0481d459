"""Layers are ranked by what is measured: the error of the answer when a layer alone is int8."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgefm.data import load_data
from edgefm.export.onnx import export_onnx
from edgefm.quantize.calibrate import choose
from edgefm.quantize.execute import execute
from edgefm.quantize.layers import in_float, layers
from edgefm.quantize.nncf import quantize_onnx
from edgefm.quantize.sensitivity import rank
from edgefm.runtime.preprocess import Preprocessor

from .conftest import DATA
from .small_graphs import pair

pytest.importorskip("nncf")


def test_the_order_is_that_of_the_measured_errors() -> None:
    fp32, int8, images = pair("test_vit")
    ranked = rank(int8, fp32, images)
    assert ranked
    errors = [each.error for each in ranked]
    assert errors == sorted(errors, reverse=True)
    assert all(error > 0 for error in errors)
    names = layers(int8, fp32)
    assert {each.layer for each in ranked} <= set(names)
    truth = execute(fp32, images)["logits"]
    for each in (ranked[0], ranked[-1]):
        alone = execute(in_float(int8, fp32, [name for name in names if name != each.layer]), images)["logits"]
        off = alone - truth  # the mean is the last layer's bias's, see `bias.centred`
        assert each.error == pytest.approx(np.sqrt(np.mean((off - off.mean(axis=0)) ** 2)) / truth.std(), rel=1e-4)


def test_the_layer_that_an_outlier_breaks_comes_first() -> None:
    from .planted import planted

    model = planted("outlier")
    calibration = choose(load_data(DATA), Preprocessor(model.preprocess), 6, seed=0)
    fp32 = export_onnx(model)
    int8 = quantize_onnx(fp32, calibration)
    ranked = rank(int8, fp32, np.concatenate(list(calibration)))
    assert ranked
    first = next(node for node in fp32.graph.node if node.name == ranked[0].layer)
    channels = next(node for node in fp32.graph.node if node.op_type == "Relu").output[0]
    assert channels in first.input
    assert ranked[0].error > 5 * ranked[1].error


def test_a_model_without_logits_is_ranked_by_its_embedding() -> None:
    fp32, int8, images = pair("test_efficientnet")
    bare, small = type(fp32)(), type(fp32)()
    bare.CopyFrom(fp32)
    small.CopyFrom(int8)
    for graph in (bare.graph, small.graph):
        del graph.output[0]
    ranked = rank(small, bare, images)
    assert ranked
    assert ranked[0].error > 0


def test_out_of_time_there_is_no_ranking_rather_than_half_of_one() -> None:
    fp32, int8, images = pair("test_efficientnet")
    assert rank(int8, fp32, images, stop=time.monotonic()) is None
