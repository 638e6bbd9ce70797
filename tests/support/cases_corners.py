"""Derivatives at kinks, ties and borders, where PyTorch's choice is taken: expected numbers by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Any

import numpy as np
from differentiated import Case, operators

Numbers = Sequence[Any]


@dataclass(frozen=True)
class Corner:
    """inputs: their numbers. expected: the gradient of sum(seed * y); The default seed is all ones."""

    nodes: str
    inputs: Mapping[str, Numbers]
    expected: Mapping[str, Numbers]
    weights: str = ""
    opset: int = 18
    seed: Numbers | float = field(default=1.0)
    output: str = "y"

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(numbers, np.float32) for name, numbers in self.inputs.items()}

    @property
    def text(self) -> str:
        shapes = {name: ",".join(map(str, a.shape)) for name, a in self.feeds.items()}
        return Case(
            self.nodes, ", ".join(f"float[{s}] {n}" for n, s in shapes.items()), self.weights, output=self.output
        ).text(self.opset)


def of(
    nodes: str,
    x: Numbers,
    dx: Numbers,
    weights: str = "",
    opset: int = 18,
    seed: Numbers | float = 1.0,
    output: str = "y",
) -> Corner:
    return Corner(nodes, {"x": x}, {"x": dx}, weights, opset, seed, output)


def row(*numbers: float) -> Numbers:
    """A tensor (1,1,1,W): one sample, one channel, one row."""
    return [[[list(numbers)]]]


READ_ON = "y = Identity (r)"
"""A reader of the dequantised tensor: without one it counts as the score, and its saturation is ignored."""


def quantised(x: Numbers, dx: Numbers, scale: str, zero: str, attributes: str = "", opset: int = 19) -> Corner:
    """Quantised and dequantised, with a scale that float32 holds exactly. (onnx evaluates these from opset 19 on.)"""
    nodes = f"q = QuantizeLinear <{attributes}> (x, s, z) r = DequantizeLinear <{attributes}> (q, s, z) {READ_ON}"
    return of(nodes.replace("<>", ""), x, dx, f"float{scale}, {zero}", opset)


BENT = {
    "relu": of("y = Relu (x)", [-1, 0, 2], [0, 0, 1]),
    "leaky-relu": of("y = LeakyRelu <alpha=0.5> (x)", [-1, 0, 2], [0.5, 0.5, 1]),
    "prelu": Corner("y = PRelu (x, s)", {"x": [-3, 0, 2], "s": [0.5]}, {"x": [0.5, 0.5, 1], "s": [-3]}),
    "thresholded-relu": of("y = ThresholdedRelu <alpha=1.0> (x)", [0.5, 1, 2], [0, 0, 1]),
    "clip": of("y = Clip (x, l, h)", [-2, -1, 0, 1, 2], [0, 0, 1, 0, 0], "float l = {-1.0}, float h = {1.0}"),
    "hard-sigmoid": of("y = HardSigmoid <alpha=0.25> (x)", [-3, -2, 0, 2, 3], [0, 0, 0.25, 0, 0]),
    "hard-swish": of("y = HardSwish (x)", [-4, -3, 0, 3, 4], [0, 0, 0.5, 1, 1]),
    "shrink": of("y = Shrink <lambd=1.0> (x)", [-2, -1, 0, 1, 2], [1, 0, 0, 0, 1]),
    "abs": of("y = Abs (x)", [-2, 0, 3], [-1, 0, 1]),
    "elu": of("y = Elu <alpha=2.0> (x)", [-1, 0, 2], [2 * exp(-1), 2, 1]),
    "celu": of("y = Celu <alpha=2.0> (x)", [-1, 0, 2], [exp(-0.5), 1, 1]),
    "pow": of("y = Pow (x, b)", [0, 0, -2, 3], [0, 0, 12, 1], "float[4] b = {2.0, 0.0, 3.0, 1.0}"),
    "pow-by-exponent": Corner("y = Pow (a, b)", {"a": [0, 1, 2], "b": [2, 2, 0]}, {"a": [0, 2, 0], "b": [0, 0, np.log(2)]}),
    "l2-of-nothing": of("y = ReduceL2 <keepdims=0> (x, i)", [[0, 0], [3, 4]], [[0, 0], [0.6, 0.8]], "int64[1] i = {1}"),
    "lp-norm-of-nothing": of("y = LpNormalization (x)", [[0, 0], [3, 4]], [[0, 0], [0.032, -0.024]]),
    "lp-norm-1-of-nothing": of("y = LpNormalization <p=1> (x)", [[0, 0], [3, -1]], [[0, 0], [0.125, 0.375]]),
    "lp-pool-of-nothing": of("y = LpPool <kernel_shape=[1,2], strides=[1,2]> (x)", row(0, 0, 3, 4), row(0, 0, 0.6, 0.8)),
    "integers-stop": of("i = Cast <to=7> (x) f = Cast <to=1> (i) y = Mul (x, f)", [1.5, 2.75], [1, 2]),
}  # fmt: skip

TIES = {
    "max": Corner("y = Max (a, b)", {"a": [1, 2, 3], "b": [1, 3, 2]}, {"a": [0.5, 0, 1], "b": [0.5, 1, 0]}),
    "min": Corner("y = Min (a, b)", {"a": [1, 2, 3], "b": [1, 3, 2]}, {"a": [0.5, 1, 0], "b": [0.5, 0, 1]}),
    "max-of-three": Corner("y = Max (a, b, c)", {"a": [6, 6], "b": [6, 1], "c": [6, 6]}, {"a": [1, 3], "b": [1, 0], "c": [1, 3]}, seed=[3, 6]),
    "max-with-zero": of("y = Max (x, z)", [-1, 0, 1], [0, 0.5, 1], "float z = {0.0}"),
    "max-spread": Corner("y = Max (a, b)", {"a": [[1, 2], [3, 2]], "b": [2]}, {"a": [[0, 0.5], [1, 0.5]], "b": [2]}),
    "reduce-max": of("y = ReduceMax <keepdims=0> (x, i)", [[1, 3, 3], [2, 0, 2]], [[0, 3, 3], [2, 0, 2]], "int64[1] i = {1}", seed=[6, 4]),
    "reduce-min": of("y = ReduceMin <keepdims=1> (x)", [[5, 5], [5, 5]], [[0.25, 0.25], [0.25, 0.25]]),
    "max-pool": of("y = MaxPool <kernel_shape=[1,2], strides=[1,2]> (x)", row(5, 5, 1, 1), row(1, 0, 1, 0)),
    "max-pool-overlapping": of("y = MaxPool <kernel_shape=[1,3]> (x)", row(2, 2, 2, 2, 1), row(1, 1, 1, 0, 0)),
    "max-pool-one-in-two-windows": of("y = MaxPool <kernel_shape=[1,2]> (x)", row(0, 7, 0), row(0, 5, 0), seed=row(2, 3)),
    "max-pool-rows-first": of("y = MaxPool <kernel_shape=[2,2]> (x)", [[[[1, 4], [4, 4]]]], [[[[0, 1], [0, 0]]]]),
    "max-pool-of-two-samples": of("y = MaxPool <kernel_shape=[2]> (x)", [[[1, 2], [4, 3]], [[6, 5], [7, 8]]], [[[0, 1], [2, 0]], [[3, 0], [0, 4]]], seed=[[[1], [2]], [[3], [4]]]),
    "global-max-pool": of("y = GlobalMaxPool (x)", [[[[1, 4], [4, 4]]]], [[[[0, 1], [0, 0]]]]),
    "hard-choice": of("i = ArgMax <axis=1> (x) y = GatherElements <axis=1> (x, i)", [[1, 4, 4]], [[0, 1, 0]]),
}  # fmt: skip

QUANTISED = {
    "uint8": quantised([-70, -64, -63.5, 0.2, 63, 63.5, 80], [0, 0, 1, 1, 1, 0, 0], " s = {0.5}", "uint8 z = {128}"),
    "int8": quantised([-80, -64, -63, 63, 63.5], [0, 0, 1, 1, 0], " s = {0.5}", "int8 z = {0}"),
    "relu": quantised([-1, 0, 0.1, 127, 127.5], [0, 0, 1, 1, 0], " s = {0.5}", "uint8 z = {0}"),
    "axis": quantised([[-70, 63, -34, 30], [70, -63, 34, -30]], [[0, 1, 0, 1], [0, 1, 0, 1]], "[4] s = {0.5, 0.5, 0.25, 0.25}", "int8[4] z = {0, 0, 4, 4}"),
    "axis-last": quantised([[[-70, 30]]], [[[0, 1]]], "[2] s = {0.5, 0.25}", "int8[2] z = {0, 4}", "axis=-1"),
    "axis-0": quantised([[-70, 70], [-34, 30]], [[0, 0], [0, 1]], "[2] s = {0.5, 0.25}", "int8[2] z = {0, 4}", "axis=0"),
    "int16": quantised([-20000, -16384, 16000, 16383.5], [0, 0, 1, 0], " s = {0.5}", "int16 z = {0}", opset=21),
    "score": of("q = QuantizeLinear (x, s) y = DequantizeLinear (q, s)", [-1, 0, 1, 200], [1, 1, 1, 1], "float s = {0.5}", 19),
    "no-zero": of("q = QuantizeLinear (x, s) r = DequantizeLinear (q, s) " + READ_ON, [-1, 0, 1, 127.5], [0, 0, 1, 0], "float s = {0.5}", 19),
    "named": of("q = QuantizeLinear <output_dtype=3> (x, s) r = DequantizeLinear (q, s) " + READ_ON, [-65, -1, 1, 64], [0, 1, 1, 0], "float s = {0.5}", 21),
    "weights": of("w = DequantizeLinear (i, s) y = Gemm <transB=1> (x, w)", [[1, 2]], [[4, 6.5]], "int8[2,2] i = {2, 4, 6, 9}, float s = {0.5}", 19),
}  # fmt: skip

BYTES = "float s = {0.5}, int8 z = {0}, float one = {1.0}, int8 low = {-128}"
QUANTISE = "q = QuantizeLinear (x, s, z)"
DYNAMIC = "q, s, z = DynamicQuantizeLinear (x)"
SCALED = "f = Cast <to=1> (c) t = Mul (s, ws) y = Mul (f, t)"
CONV = "r = QLinearConv (q, s, z, w, ws, z, one, low)"

# Expected numbers are in real units. An output with zero point -128 and scale 1 holds 0 to 255.
INTEGERS = {
    "conv": of(f"{QUANTISE} {CONV} v = DequantizeLinear (r, one, low) y = Identity (v)", row(1, 2, 3), row(1, 3, 2), f"{BYTES}, int8[1,1,1,2] w = {{2, 4}}, float ws = {{0.5}}", 19),
    "conv-saturated": of(f"{QUANTISE} {CONV} v = DequantizeLinear (r, one, low) y = Identity (v)", row(1, 2, -5), row(2, 2, 0), f"{BYTES}, int8[1,1,1,1] w = {{4}}, float ws = {{0.5}}", 19),
    "conv-channels": of("q = QuantizeLinear (x, s, z) r = QLinearConv (q, s, z, w, ws, wz, one, low) v = DequantizeLinear (r, one, low) y = Identity (v)", row(1, 2), row(7, 7), f"{BYTES}, int8[2,1,1,1] w = {{6, 4}}, float[2] ws = {{0.5, 1.0}}, int8[2] wz = {{0, 0}}", 19),
    "add": Corner("p = QuantizeLinear (a, s, u) q = QuantizeLinear (b, s, u) r = com.microsoft.QLinearAdd (p, s, u, q, s, u, s, u) v = DequantizeLinear (r, s, u) y = Identity (v)", {"a": [1, 100, -3], "b": [2, 100, 1]}, {"a": [1, 0, 0], "b": [1, 0, 1]}, "float s = {0.5}, uint8 u = {0}, uint8[3] r", 19),
    "average": of(f"{QUANTISE} r = com.microsoft.QLinearGlobalAveragePool (q, s, z, s, z) v = DequantizeLinear (r, s, z) y = Identity (v)", row(2, 4), row(0.5, 0.5), f"{BYTES}, int8[1,1,1,1] r", 19),
    "gemm": of(f"{QUANTISE} y = com.microsoft.QGemm (q, s, z, w, s, z)", [[1, 2]], [[3, 7]], f"{BYTES}, int8[2,2] w = {{2, 4, 6, 8}}", 19, output="float[1,2] y"),
    "gemm-turned": of(f"{QUANTISE} y = com.microsoft.QGemm <transB=1, alpha=2.0> (q, s, z, w, ws, wz)", [[1, 2]], [[14, 20]], f"{BYTES}, int8[2,2] w = {{2, 4, 6, 8}}, float[2] ws = {{0.5, 1.0}}, int8[2] wz = {{0, 0}}", 19, output="float[1,2] y"),
    "gemm-saturated": of(f"{QUANTISE} r = com.microsoft.QGemm (q, s, z, w, s, z, , one, low) v = DequantizeLinear (r, one, low) y = Identity (v)", [[1, 2]], [[1, 3]], f"{BYTES}, int8[2,2] w = {{2, -4, 6, -8}}, int8[1,2] r", 19),
    "gemm-score": of(f"{QUANTISE} r = com.microsoft.QGemm (q, s, z, w, s, z, , one, low) y = DequantizeLinear (r, one, low)", [[1, 2]], [[-1, -1]], f"{BYTES}, int8[2,2] w = {{2, -4, 6, -8}}, int8[1,2] r", 19),
    "dynamic-conv": of(f"{DYNAMIC} c = ConvInteger (q, w, z, wz) {SCALED}", row(0, 1, 2), row(1, 3, 2), "uint8[1,1,1,2] w = {3, 5}, uint8 wz = {1}, float ws = {0.5}"),
    "dynamic-product": of(f"{DYNAMIC} c = MatMulInteger (q, w, z, wz) {SCALED}", [[0, 1], [2, -3]], [[3, 7], [3, 7]], "uint8[2,2] w = {3, 5, 7, 9}, uint8 wz = {1}, float ws = {0.5}"),
    "dynamic-product-columns": of(f"{DYNAMIC} c = MatMulInteger (q, w, z, wz) {SCALED}", [[0, 1]], [[2.5, 6.5]], "uint8[2,2] w = {3, 5, 7, 9}, uint8[2] wz = {1, 2}, float ws = {0.5}"),
}  # fmt: skip

CORNERS = (
    BENT
    | TIES
    | {f"quantised-{n}": c for n, c in QUANTISED.items()}
    | {f"integers-{n}": c for n, c in INTEGERS.items()}
)
BY_HAND = frozenset(op for corner in CORNERS.values() for op in operators(corner.text))
