"""Preprocessing as an ONNX graph over pixels of any size, exactly as `spec/preprocess.py` defines it.

Not `Resize`: engines disagree on it. Both passes are matrix products with weights that the graph itself computes, which every
engine answers alike, as long as it computes in float32 (OpenVINO: set `INFERENCE_PRECISION_HINT` to f32).

Rows far apart share no source rows, so the vertical product works on blocks of output rows, each with its own h source rows:

    pixels [H, W, C] ─▶ gather [B, h, W C] ─▶ float, window ─▶ down [B, S / B, h] @ [B, h, W C] ─▶ [S, W, C]
                     ─▶ crop [C, S, w] ─▶ [C, S, w] @ across [w, S] ─▶ luma, clip, normalise ─▶ images
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..spec.preprocess import Preprocess

OPSET = 20
BLOCKS = 8  # of output rows; fewer cost more multiplications, more copy more rows twice
IR_VERSION = 10
LUMA = (0.299, 0.587, 0.114)


def build_preprocess_graph(spec: Preprocess) -> onnx.ModelProto:
    """The graph of one model's preprocessing; the same bytes every time.

    Inputs:
        pixels: uint16 `[H, W, C]`, C = 1, 3 or 4; H and W any size, decided at run time.
        bits: int64 scalar. 8: the values 0 to 255 stand for uint8 pixels; 16: raw uint16 pixels, windowed by `window16`.

    Output:
        images: float32 `[1, channels, S, S]`.
    """
    g = _Graph()
    shape = g("Shape", "pixels")
    height, width, depth = (g("Gather", shape, g.whole(axis)) for axis in range(3))
    eight = g("Equal", "bits", g.whole(8))
    low, high = spec.window16
    extent = g("Where", eight, g.constant(255.0), g.constant(high - low))

    shorter = g("Min", height, width)
    columns, across = _weights(g, spec, width, shorter, 1)  # [1, w], [1, S, w]
    rows, down = _weights(g, spec, height, shorter, min(BLOCKS, spec.size))  # [B, h], [B, S / B, h]
    x = g("Gather", "pixels", rows, axis=0)
    x = g("Cast", x, to=TensorProto.FLOAT)
    x = g("Reshape", x, g("Concat", g("Shape", rows), g.constant([-1], np.int64), axis=0))  # [B, h, W C]
    if low != 0.0:
        x = g("Sub", x, g("Where", eight, g.constant(0.0), g.constant(low)))
    if low > 0.0 or high < 65535.0:
        x = g("Clip", x, g.constant(0.0), extent)
    x = g("MatMul", down, x)  # [B, S / B, W C]
    x = g("Reshape", x, g("Concat", g.constant([-1], np.int64), g.row(width), g.row(depth), axis=0))  # [S and more, W, C]
    columns = g("Squeeze", columns, g.constant([0], np.int64))
    left, right = (g("Gather", columns, g.constant([index], np.int64)) for index in (0, -1))
    begin = g("Concat", g.constant([0], np.int64), left, g.constant([0], np.int64), axis=0)
    end = g("Add", right, g.constant([1], np.int64))
    end = g("Concat", g.constant([spec.size], np.int64), end, g.constant([3], np.int64), axis=0)
    x = g("Slice", x, begin, end)  # [S, w, 1 or 3]
    x = g("Transpose", x, perm=[2, 0, 1])  # [1 or 3, S, w]
    x = g("MatMul", x, g("Transpose", across, perm=[0, 2, 1]))
    x = g("Div", x, extent)
    if spec.channels == 1:
        grey = g("Equal", depth, g.whole(1))
        share = g("Where", grey, g.constant([1.0, 0.0, 0.0]), g.constant(LUMA))
        share = g("Slice", share, g.constant([0], np.int64), g.row(depth), g.constant([0], np.int64))
        x = g("ReduceSum", g("Mul", x, g("Unsqueeze", share, g.constant([1, 2], np.int64))), g.constant([0], np.int64))
    x = g("Clip", x, g.constant(0.0), g.constant(1.0))
    x = g("Sub", x, g.constant(np.reshape(spec.mean, (-1, 1, 1))))
    x = g("Div", x, g.constant(np.reshape(spec.std, (-1, 1, 1))))
    side = spec.size
    g("Reshape", x, g.constant([1, spec.channels, side, side], np.int64), output="images")

    graph = helper.make_graph(
        g.nodes,
        "preprocess",
        [
            helper.make_tensor_value_info("pixels", TensorProto.UINT16, ["height", "width", "depth"]),
            helper.make_tensor_value_info("bits", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, spec.channels, side, side])],
        g.constants,
    )
    return helper.make_model(
        graph, producer_name="edgefm", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def _weights(g: _Graph, spec: Preprocess, n: str, shorter: str, blocks: int) -> tuple[str, str]:
    """The cropped matrix that resizes an axis of n pixels to m, in blocks of output pixels j with their own source pixels i.

    With I = 2 i + 1 - n and J = 2 j + 1 - m, both small near the centre, the kernel's argument of the spec is
    (I - J n / m) / (2 max(n / m, 1)); J n / m is split into a whole number and a remainder, so float32 loses nothing.

    Returns:
        i: int64 `[blocks, L]`, the source pixels that matter to each block.
        matrix: float32 `[blocks, ceil(S / blocks), L]`; rows past S repeat the last one.
    """
    zero, one, two, size = (g.whole(value) for value in (0, 1, 2, spec.size))
    m = g.whole(spec.resize_to)
    if spec.resize == "shorter":
        m = g("Div", g("Mul", m, n), shorter)
    extra = g("Sub", m, size)
    corner = g("Div", g("Add", extra, g("Mod", g("Div", extra, two), two)), two)  # halves to even

    each = -(-spec.size // blocks)
    j = np.minimum(np.arange(blocks * each), spec.size - 1).reshape(blocks, each, 1)
    j = g("Add", g.constant(j, np.int64), corner)
    scaled = g("Mul", g("Sub", g("Add", g("Mul", j, two), one), m), n)  # J n
    remainder = g("Mod", scaled, m)
    quotient = g("Div", g("Sub", scaled, remainder), m)  # [blocks, each, 1]

    bicubic = spec.filter == "bicubic"
    reach = g("Add", g("Div", g("Mul", g.whole(4 if bicubic else 2), g("Max", n, m)), m), two)
    first, last = (g("Add", g("Gather", quotient, g.whole(row), axis=1), n) for row in (0, each - 1))  # [blocks, 1]
    low = g("Max", g("Div", g("Sub", first, reach), two), zero)
    high = g("Min", g("Div", g("Add", last, reach), two), n)
    length = g("ReduceMax", g("Sub", high, low), keepdims=0)
    i = g("Add", g("Min", low, g("Sub", n, length)), g("Range", zero, length, one))

    n32, m32, i32 = (g("Cast", value, to=TensorProto.FLOAT) for value in (n, m, g("Sub", g("Add", g("Mul", i, two), one), n)))
    quotient, remainder = (g("Cast", value, to=TensorProto.FLOAT) for value in (quotient, remainder))
    t = g("Sub", g("Sub", g("Unsqueeze", i32, g.constant([1], np.int64)), quotient), g("Div", remainder, m32))
    t = g("Abs", g("Div", t, g("Mul", g("Max", g("Div", n32, m32), g.constant(1.0)), g.constant(2.0))))
    if bicubic:
        far = g("Where", g("Less", t, g.constant(2.0)), g.polynomial(t, -0.5, 2.5, -4.0, 2.0), g.constant(0.0))
        k = g("Where", g("Less", t, g.constant(1.0)), g.polynomial(t, 1.5, -2.5, 0.0, 1.0), far)
    else:
        k = g("Max", g("Sub", g.constant(1.0), t), g.constant(0.0))
    return i, g("Div", k, g("ReduceSum", k, g.constant([2], np.int64)))


class _Graph:
    """Nodes and constants in the order they are made, named by that order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def __call__(self, op: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Adds a node and returns the name of its output."""
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        """The name of a constant, one per value."""
        array = np.asarray(value, dtype)
        key = (array.dtype.name, array.tobytes(), array.shape)
        if key not in self._names:
            self._names[key] = f"constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def whole(self, value: int) -> str:
        """The name of an int64 scalar."""
        return self.constant(value, np.int64)

    def row(self, scalar: str) -> str:
        """A scalar as a tensor `[1]`."""
        return self("Unsqueeze", scalar, self.constant([0], np.int64))

    def polynomial(self, t: str, first: float, *rest: float) -> str:
        """Horner's scheme, the highest power first."""
        value = self.constant(first)
        for coefficient in rest:
            value = self("Mul", value, t)
            if coefficient:
                value = self("Add", value, self.constant(coefficient))
        return value
