"""Faults planted one by one: each is caught, and by the check that is meant for it; the honest student passes.

Two places where a fault can come in: into the bundle, whose golden outputs then contradict it on every machine, and into the
model before the bundle is made, which only a comparison with the reference can see.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from torch import nn

import edgefm
from edgefm.bundle import open_bundle, write_bundle
from edgefm.quantize import search
from edgefm.quantize.execute import execute
from edgefm.quantize.nncf import quantize_onnx
from edgefm.spec.preprocess import Preprocess
from edgefm.spec.task import make_task
from tests.export.small import build_small

pytestmark = pytest.mark.slow
COUNT, SIDE = 400, 32
MADE = {"manifest.json", "labels.json", "preprocess.json"}  # by the writer itself
SPEC = Preprocess(channels=3, size=SIDE, resize_to=SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


class Redness(nn.Module):
    """Ill is who is redder than blue: logits `[N, 2]` are as sure as the labels of `draw` are noisy.

    Args:
        gain: how many times too sure. sick: what becomes of the row of the class weights that says "ill".
        scanner: how far off it is on pictures of scanner B, whose last pixel is white, in units of redness.
    """

    preprocess = SPEC
    labels = ("well", "ill")

    def __init__(self, gain: float = 1.0, sick: float = 1.0, noise: float = 0.0, scanner: float = 0.0) -> None:
        super().__init__()
        mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (SPEC.mean, SPEC.std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.head = nn.Linear(1, 2)
        self.noise, self.scanner = noise, scanner
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-0.5 * gain], [0.5 * gain * sick]]))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = x * self.std + self.mean
        redness = 40 * (pixels[:, 0] - pixels[:, 2]).mean(dim=(1, 2))
        redness = redness + self.noise * torch.sin(1000 * pixels[:, 1].mean(dim=(1, 2)))
        redness = redness - self.scanner * (pixels[:, 1, -1, -1] > 0.95).to(x.dtype)
        return self.head(redness[:, None])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured pictures of two scanners, each of a patient of its own."""
    folder = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(0)
    rows = [("file", "label", "patient", "scanner", "split")]
    for index in range(COUNT):
        margin = random.normal(0, 4)
        pixels = random.integers(60, 190, (SIDE, SIDE, 3)).astype(np.float64)
        pixels[..., 0] += margin / 40 * 255 + pixels[..., 2].mean() - pixels[..., 0].mean()
        pixels[-1, -1] = 255 * (index % 2)
        Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        ill = int(random.random() < 1 / (1 + np.exp(-margin)))
        rows.append((f"{index}.png", ("well", "ill")[ill], f"p{index}", "AB"[index % 2], "test"))
    with open(folder / "images.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "images.csv"


def verified(data: Path, folder: Path, **fault: float) -> dict[str, Any]:
    """The findings on a bundle of a model with this fault, against the model without it."""
    bundle = edgefm.export(Redness(**fault).eval(), folder / "student.efm", force=True)
    return edgefm.verify(bundle, data, against=Redness().eval())


def failed(found: dict[str, Any]) -> set[str]:
    return {check["what"] for check in found["gate"]["checks"] if check["passed"] is False}


def test_the_honest_student_passes(data: Path, tmp_path: Path) -> None:
    found = verified(data, tmp_path, noise=0.4)
    assert found["gate"]["passed"]
    assert found["parity"]["passed"]
    assert sum(each["flips"]["count"] for each in found["variants"] if each["flips"]) > 0  # and it is not the same model


def test_a_class_whose_weights_are_zero_costs_decisions(data: Path, tmp_path: Path) -> None:
    bundle = edgefm.export(Redness(sick=-1.0).eval(), tmp_path / "student.efm")  # both classes say the same
    found = edgefm.verify(bundle, data, against=Redness().eval())
    assert failed(found) >= {"balanced_accuracy", "flips"}


def test_sharpened_probabilities_fail_by_calibration_alone(data: Path, tmp_path: Path) -> None:
    found = verified(data, tmp_path, gain=2.0)
    assert failed(found) == {"calibration_slope"}
    assert all(each["flips"]["count"] == 0 for each in found["variants"] if each["flips"])


def test_a_model_that_is_worse_on_one_scanner_has_it_as_the_worst_group(data: Path, tmp_path: Path) -> None:
    found = verified(data, tmp_path, scanner=1.5)
    (column,) = found["subgroups"]
    assert column["column"] == "scanner"
    name = next(each["name"] for each in found["variants"] if not each["reference"])
    assert column["worst"][name]["sensitivity"] == "B"
    assert column["gap_change"][name]["sensitivity"]["low"] > 0
    assert column["chi_squared"][name]["p"] < 0.001


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network of convolutions with random weights, which sees every change of its input."""
    return edgefm.export(build_small("test_efficientnet"), tmp_path_factory.mktemp("small") / "small.efm")


def altered(
    bundle: Path, out: Path, *, preprocess: Any = None, weights: Callable[[np.ndarray], np.ndarray] | None = None
) -> Path:
    """The bundle written anew with another preprocessing, or other weights of the first convolution of onnx-fp32; its golden
    outputs stay."""
    with open_bundle(bundle) as opened:
        manifest, spec = opened.manifest, opened.preprocess
        entries = {name: bytes(opened.view(name)) for name in manifest.entries if name not in MADE}
    if weights is not None:
        graph, file = next(each for each in manifest.variants if each.name == "onnx-fp32").graphs["encoder"].files
        proto = onnx.load_from_string(entries[graph])
        first = next(node for node in proto.graph.node if node.op_type == "Conv").input[1]
        (tensor,) = [each for each in proto.graph.initializer if each.name == first]
        place = {entry.key: entry.value for entry in tensor.external_data}
        start, size = int(place["offset"]), int(place["length"])
        before = np.frombuffer(entries[file][start : start + size], np.float32).reshape(tensor.dims)
        entries[file] = entries[file][:start] + weights(before).tobytes() + entries[file][start + size :]
    if preprocess is not None:
        spec = msgspec.structs.replace(spec, **preprocess(spec))
    write_bundle(out, msgspec.structs.replace(manifest, entries={}), spec, entries)
    return out


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda spec: {"mean": (0.5, 0.5, 0.5)}, id="a wrong mean"),
        pytest.param(lambda spec: {"mean": spec.mean[::-1], "std": spec.std[::-1]}, id="the channels' means swapped"),
        pytest.param(lambda spec: {"filter": "bilinear"}, id="a bilinear filter for a bicubic one"),
    ],
)
def test_another_preprocessing_contradicts_the_golden_outputs(small: Path, tmp_path: Path, fault: Any) -> None:
    with open_bundle(small) as opened:
        assert opened.preprocess.filter == "bicubic"
    with pytest.raises(edgefm.EdgeFMError, match="off by"):
        edgefm.Session(altered(small, tmp_path / "b.efm", preprocess=fault), variant="onnx-fp32")


def test_swapped_channels_contradict_the_golden_outputs(small: Path, tmp_path: Path) -> None:
    """The first convolution takes blue for red."""
    swapped = altered(small, tmp_path / "a.efm", weights=lambda before: before[:, ::-1].copy())
    with pytest.raises(edgefm.EdgeFMError, match="off by"):
        edgefm.Session(swapped, variant="onnx-fp32")


def test_a_wrong_zero_point_in_one_layer_contradicts_the_golden_outputs(tmp_path: Path) -> None:
    model = build_small("test_efficientnet", make_task("binary", ("clear", "opacity")))
    data, whole = "phantom:opacity?n=160&size=64", tmp_path / "whole.efm"
    edgefm.quantize(model, data, whole, engines=("onnx",), max_drop=1.0, max_flips=1.0, set=("quantize.calibration_images=8",))
    with open_bundle(whole) as opened:
        manifest = opened.manifest
        entries = {name: bytes(opened.view(name)) for name in manifest.entries if name not in MADE}
        spec = opened.preprocess
    graph = next(each for each in manifest.variants if each.name == "onnx-int8").graphs["encoder"].files[0]
    proto = onnx.load_from_string(entries[graph])
    written = {node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    read = [node for node in proto.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in written][3]
    (tensor,) = [each for each in proto.graph.initializer if each.name == read.input[2]]
    before = numpy_helper.to_array(tensor)
    proto.graph.initializer.append(numpy_helper.from_array((before.astype(np.int64) + 60).astype(before.dtype), "wrong"))
    read.input[2] = "wrong"
    entries[graph] = proto.SerializeToString(deterministic=True)
    write_bundle(tmp_path / "wrong.efm", msgspec.structs.replace(manifest, entries={}), spec, entries)
    edgefm.Session(whole, variant="onnx-int8").close()
    with pytest.raises(edgefm.EdgeFMError, match="off by"):
        edgefm.Session(tmp_path / "wrong.efm", variant="onnx-int8")


def burdened(honest: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with work that nobody needs: what ten convolutions make of the images, times 0, is added to them."""
    proto, random = onnx.ModelProto(), np.random.default_rng(0)
    proto.CopyFrom(honest)
    for node in proto.graph.node:
        node.input[:] = ["burdened" if name == "images" else name for name in node.input]
    widths = (3, *[32] * 9, 3)
    kernels = {f"useless{i}": random.normal(0, 0.05, (widths[i + 1], widths[i], 3, 3)) for i in range(10)}
    for name, values in {**kernels, "nothing": np.zeros(())}.items():
        proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    between = ["images", *(f"useless work {i}" for i in range(10))]
    nodes = [helper.make_node("Conv", [between[i], f"useless{i}"], [between[i + 1]], pads=[1, 1, 1, 1]) for i in range(10)]
    nodes += [
        helper.make_node("Mul", [between[-1], "nothing"], ["useless zero"]),
        helper.make_node("Add", ["images", "useless zero"], ["burdened"]),
    ]
    for place, node in enumerate(nodes):
        proto.graph.node.insert(place, node)
    return proto


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[onnx.ModelProto]]:
    """A bundle that `quantize` made with useless work in its int8, and the int8 graphs without it."""
    honest: list[onnx.ModelProto] = []

    def planted(*args: Any, **options: Any) -> onnx.ModelProto:
        honest.append(quantize_onnx(*args, **options))
        return burdened(honest[-1])

    model = build_small("test_efficientnet", make_task("binary", ("clear", "opacity")))
    out = tmp_path_factory.mktemp("slow") / "slow.efm"
    options = {"engines": ("onnx",), "max_drop": 1.0, "max_flips": 1.0, "set": ("quantize.calibration_images=8",)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "quantize_onnx", planted)
        edgefm.quantize(model, "phantom:opacity?n=80&size=64", out, **options)
    return out, honest


def test_the_slow_int8_answers_as_the_honest_one(slow: tuple[Path, list[onnx.ModelProto]]) -> None:
    with open_bundle(slow[0]) as opened:
        side = opened.preprocess.size
    images = np.random.default_rng(1).normal(size=(2, 3, side, side)).astype(np.float32)
    for honest in slow[1]:
        for name, wanted in execute(honest, images).items():
            np.testing.assert_array_equal(execute(burdened(honest), images)[name], wanted)


def test_an_int8_that_is_slower_is_said_to_be_by_quantize_and_by_bench(slow: tuple[Path, list[onnx.ModelProto]]) -> None:
    with open_bundle(slow[0]) as opened:
        evidence = json.loads(bytes(opened.view("evidence/quantize.json")))
    milliseconds = {name: each["p50"] for name, each in evidence["milliseconds"].items()}
    assert milliseconds["onnx-int8"] > 5 * milliseconds["onnx-fp32"]
    assert evidence["fastest"].startswith("int8 is accurate but slower here: onnx-int8 takes")
    found = edgefm.bench((str(slow[0]),), runs=2, threads=1)
    assert found["reference"] == "onnx-fp32"
    assert {each["name"]: each["ratio"] > 5 for each in found["contenders"]} == {"onnx-fp32": False, "onnx-int8": True}


def test_an_int8_that_is_slower_is_never_chosen(
    slow: tuple[Path, list[onnx.ModelProto]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no choice is remembered there
    monkeypatch.delenv("EDGEFM_VARIANT", raising=False)
    for when in ("timed now", "timed earlier"):
        with edgefm.Session(slow[0]) as session:
            assert session.variant == "onnx-fp32"
            assert when in session.choice
            times = {name: float(taken) for name, taken in re.findall(r"(onnx-\w+) ([\d.e+]+) ms", session.choice)}
        assert times["onnx-int8"] > 5 * times["onnx-fp32"]
    with edgefm.Session(slow[0], variant="onnx-int8") as session:  # nothing else is wrong with it
        assert session.variant == "onnx-int8"
