"""Preprocessing as an ONNX graph over pixels of any size, exactly as `spec/preprocess.py` defines it.

Not `Resize`: engines disagree on it. Both passes are matrix products with weights that the graph itself computes, which every
engine answers alike, as long as it computes in float32 (OpenVINO: set `INFERENCE_PRECISION_HINT` to f32).

    pixels ─┬▶ rows of block 1 ─▶ float, window ─▶ down [S / 4, h] @ [h, w C] ─┬▶ [S, w C] ─▶ [C, S, w] @ across [w, S] ─▶ ...
            ├▶ ...                                                             │         ... ─▶ luma, clip, normalise ─▶ images
            └▶ rows of block 4 ─▶ float, window ─▶ down [S / 4, h] @ [h, w C] ─┘
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..spec.preprocess import Preprocess

OPSET = 20
BLOCKS = 4  # rows far apart share no source rows: in four blocks the vertical product costs a quarter of the multiplications
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
    vertical, horizontal = (_Axis(g, spec, side, shorter) for side in (height, width))
    left, right, across = horizontal.weights(0, spec.size)  # [S, w]
    both = g.constant([0, 1], np.int64)

    def rows(first: int, count: int) -> str:
        """Rows first .. first + count of the vertical pass, `[count, w C]`."""
        above, below, down = vertical.weights(first, count)  # [count, h]
        begin, end = (g("Concat", y, x, axis=0) for y, x in ((above, left), (below, right)))
        x = g("Cast", g("Slice", "pixels", begin, end, both), to=TensorProto.FLOAT)
        x = g("Flatten", x, axis=1)
        if low != 0.0:
            x = g("Sub", x, g("Where", eight, g.constant(0.0), g.constant(low)))
        if low > 0.0 or high < 65535.0:
            x = g("Clip", x, g.constant(0.0), extent)
        return g("MatMul", down, x)

    block = -(-spec.size // BLOCKS)
    x = g("Concat", *(rows(j, min(block, spec.size - j)) for j in range(0, spec.size, block)), axis=0)
    wide = g("Sub", right, left)
    x = g("Reshape", x, g("Concat", g.constant([spec.size], np.int64), wide, g.row(depth), axis=0))  # [S, w, C]
    x = g("Slice", x, g.constant([0], np.int64), g.constant([3], np.int64), g.constant([2], np.int64))
    x = g("Transpose", x, perm=[2, 0, 1])  # [1 or 3, S, w]
    x = g("MatMul", x, g("Transpose", across, perm=[1, 0]))
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


class _Axis:
    """One axis that goes from n to m pixels, in whole numbers, and its weights."""

    def __init__(self, g: _Graph, spec: Preprocess, n: str, shorter: str) -> None:
        self.g, self.n, self.bicubic = g, n, spec.filter == "bicubic"
        self.m = g.whole(spec.resize_to)
        if spec.resize == "shorter":
            self.m = g("Div", g("Mul", self.m, n), shorter)
        extra = g("Sub", self.m, g.whole(spec.size))
        half_to_even = g("Mod", g("Div", extra, g.whole(2)), g.whole(2))
        self.corner = g("Div", g("Add", extra, half_to_even), g.whole(2))
        n32, self.m32 = g("Cast", n, to=TensorProto.FLOAT), g("Cast", self.m, to=TensorProto.FLOAT)
        self.support = g("Max", g("Div", n32, self.m32), g.constant(1.0))
        reach = g("Div", g("Mul", g.whole(4 if self.bicubic else 2), g("Max", n, self.m)), self.m)
        self.reach = g("Add", reach, g.whole(2))

    def weights(self, first: int, count: int) -> tuple[str, str, str]:
        """Rows first .. first + count of the cropped matrix, for the source pixels that matter to them.

        With I = 2 i + 1 - n and J = 2 j + 1 - m, both small near the centre, the kernel's argument of the spec is
        (I - J n / m) / (2 max(n / m, 1)); J n / m is split into a whole number and a remainder, so float32 loses nothing.

        Returns:
            low, high: int64 `[1]`, the source pixels low .. high.
            matrix: float32 `[count, high - low]`.
        """
        g, n, column = self.g, self.n, self.g.constant([1], np.int64)
        j = g("Add", g.constant(np.arange(first, first + count), np.int64), self.corner)
        centre = g("Mul", g("Sub", g("Add", g("Mul", j, g.whole(2)), g.whole(1)), self.m), n)  # J n
        remainder = g("Mod", centre, self.m)
        quotient = g("Div", g("Sub", centre, remainder), self.m)

        ends = g("Add", g("Gather", quotient, g.constant([0, count - 1], np.int64)), n)
        low = g("Sub", g("Gather", ends, g.constant([0], np.int64)), self.reach)
        low = g("Div", g("Max", low, g.whole(0)), g.whole(2))
        high = g("Add", g("Gather", ends, g.constant([1], np.int64)), self.reach)
        high = g("Min", g("Div", high, g.whole(2)), n)

        offset = g("Sub", g.whole(1), n)
        scalar = g.constant([], np.int64)
        begin, end = (g("Add", g("Mul", g("Reshape", edge, scalar), g.whole(2)), offset) for edge in (low, high))
        t = g("Cast", g("Range", begin, end, g.whole(2)), to=TensorProto.FLOAT)  # I
        t = g("Sub", t, g("Unsqueeze", g("Cast", quotient, to=TensorProto.FLOAT), column))
        t = g("Sub", t, g("Unsqueeze", g("Div", g("Cast", remainder, to=TensorProto.FLOAT), self.m32), column))
        t = g("Abs", g("Div", t, g("Mul", self.support, g.constant(2.0))))
        if self.bicubic:
            far = g("Where", g("Less", t, g.constant(2.0)), g.polynomial(t, -0.5, 2.5, -4.0, 2.0), g.constant(0.0))
            k = g("Where", g("Less", t, g.constant(1.0)), g.polynomial(t, 1.5, -2.5, 0.0, 1.0), far)
        else:
            k = g("Max", g("Sub", g.constant(1.0), t), g.constant(0.0))
        return low, high, g("Div", k, g("ReduceSum", k, column))


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
