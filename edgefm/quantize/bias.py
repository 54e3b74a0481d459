"""Bias correction: a bias takes up the mean error that int8 makes up to there. The last layer's first, others' where it helps.

Not NNCF's own: on ONNX that knows no bias behind a MatMul, which is where a vision transformer has them, leaves a layer out as
soon as one channel would move by more than twice its bias, and in its accurate form does not run on a transformer's graph.

    b  <-  b + E[y] - E[y8]        y, y8: the layer's output per channel in fp32 and in int8, mean over images and places

Empirical bias correction (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction",
section 4.2); y8 is what the graph gives with the layers before it corrected already. A layer keeps its old bias if the answers
to these images come no nearer to fp32's, but for a shift of them all: on a MobileNetV3-small all corrections together raised
the error of the logits from 0.064 to 0.084 standard deviations (NNCF's accurate form: to 0.165), those that help lowered it to
0.060 (shift included).

The last layer's correction (`centred`) costs two passes and is what decisions hang on: logits that all err to one side cross
the threshold in one direction. A MobileNetV3-small whose margin erred by -0.20 near the threshold changed 1 of 237 decisions
on val, and passed, but 17 of 1,211 on test, all of them from positive to negative.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .execute import execute
from .layers import added_bias, bias_of, drop_unread, layers


@dataclass(frozen=True)
class Place:
    """Where a bias is added: the node's name, which input of it, its output's name, and how many channels there are."""

    node: str
    position: int
    output: str
    channels: int
    channels_first: bool


def correct_biases(
    int8: onnx.ModelProto, fp32: onnx.ModelProto, images: np.ndarray, stop: float = float("inf")
) -> onnx.ModelProto | None:
    """The int8 graph with those biases corrected that bring its answers nearer to fp32's, but for what `centred` takes up.

    Args:
        int8: what `quantize_onnx` made of `fp32`; left as it is.
        images: prepared, float32 `[n, C, S, S]`: calibration images.
        stop: when to give up, on `time.monotonic`'s clock.

    Returns:
        None if it took longer than `stop`.
    """
    found, answer = places(int8, fp32), fp32.graph.output[0].name
    shifts = can_shift(fp32, len(images))
    aim, expected = execute(fp32, images)[answer], execute(means(fp32, found), images) if found else {}
    best, least = int8, square_error(int8, images, aim, shifts)
    for place in found:
        if time.monotonic() > stop:
            return None
        name = f"{place.output}/mean"
        off = expected[name] - execute(means(best, [place]), images)[name]
        changed = shifted(best, place.node, place.position, off.mean(axis=0, dtype=np.float64))
        error = square_error(changed, images, aim, shifts)
        if error < least:
            best, least = changed, error
    return best


def centred(int8: onnx.ModelProto, images: np.ndarray, aim: np.ndarray) -> onnx.ModelProto:
    """The int8 graph whose answers err by nothing in the mean: the last bias takes that up.

    Left as they are: an answer whose mean error is within its standard error or not finite, all where there is no such bias
    or one image only.

    Args:
        int8: left as it is. images: prepared, float32 `[n, C, S, S]`: calibration images.
        aim: what fp32 answers to them, `[n, K]`: its first output.
    """
    place = last_place(int8)
    if place is None or len(images) < 2:
        return int8
    off = aim.astype(np.float64) - execute(int8, images)[int8.graph.output[0].name]
    mean, doubt = off.mean(axis=0), off.std(axis=0, ddof=1) / np.sqrt(len(off))
    return shifted(int8, *place, np.where(np.isfinite(mean) & (np.abs(mean) > doubt), mean, 0.0))


def can_shift(proto: onnx.ModelProto, images: int) -> bool:
    """Whether `centred` takes up what the answers to so many images err by in the mean."""
    return images > 1 and last_place(proto) is not None


def last_place(proto: onnx.ModelProto) -> tuple[str, int] | None:
    """The node that gives the answer, the first output, and which of its inputs is its bias; None where it has none."""
    graph = proto.graph
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    found = (added_bias if last.op_type == "Add" else bias_of)(graph, last)
    return None if found is None else (found[0].name, found[1])


def places(int8: onnx.ModelProto, fp32: onnx.ModelProto) -> list[Place]:
    """The biases of the layers with int8 weights, in the order of the graph."""
    weights = {tensor.name: tensor.dims for tensor in fp32.graph.initializer}
    quantized, found = {*layers(int8, fp32)}, []
    for node in fp32.graph.node:
        if node.name not in quantized or len(node.input) < 2 or node.input[1] not in weights:
            continue
        place = bias_of(fp32.graph, node)
        if place is None:
            continue
        adder, position = place
        dims = weights[node.input[1]]
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        channels = dims[0] if node.op_type == "Conv" or transposed else dims[-1]
        found.append(Place(adder.name, position, adder.output[0], channels, node.op_type == "Conv"))
    return found


def means(proto: onnx.ModelProto, found: Iterable[Place]) -> onnx.ModelProto:
    """The graph whose outputs are these values averaged over places: float32 `[n, channels]`, called "NAME/mean"."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    del graph.output[:]
    for place in found:
        shape = [0, place.channels, -1] if place.channels_first else [0, -1, place.channels]
        axis = 2 if place.channels_first else 1
        flat, mean = f"{place.output}/flat", f"{place.output}/mean"
        for name, value in ((f"{flat}/shape", shape), (f"{mean}/axis", [axis])):
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        graph.node.append(helper.make_node("Reshape", [place.output, f"{flat}/shape"], [flat]))
        graph.node.append(helper.make_node("ReduceMean", [flat, f"{mean}/axis"], [mean], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, None))
    drop_unread(graph)
    return changed


def shifted(proto: onnx.ModelProto, name: str, position: int, shift: np.ndarray) -> onnx.ModelProto:
    """The graph with `[channels]` added to the bias of a node, in a tensor of its own: the old one may be shared, or absent."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    node = next(node for node in graph.node if node.name == name)
    there = {tensor.name: tensor for tensor in graph.initializer}
    absent = len(node.input) <= position or not node.input[position]
    moved = (shift if absent else numpy_helper.to_array(there[node.input[position]]) + shift).astype(np.float32)
    node.input.extend([""] * (position + 1 - len(node.input)))
    node.input[position] = own = f"{name}/bias"
    if own not in there:
        there[own] = graph.initializer.add()
    there[own].CopyFrom(numpy_helper.from_array(moved, own))
    drop_unread(graph)
    return changed


def square_error(proto: onnx.ModelProto, images: np.ndarray, aim: np.ndarray, shifts: bool) -> float:
    """Mean square of what the answers err by, about its mean if that is taken up later (`shifts`)."""
    off = (execute(proto, images)[proto.graph.output[0].name] - aim).astype(np.float64)
    return float(np.mean((off - off.mean(axis=0) if shifts else off) ** 2))
