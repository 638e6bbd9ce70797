"""A Gaussian process over masks as a graph: the covariance, links and moments of methods/estimate in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.element_types import DOUBLE
from onnxcam.methods.estimate.links import NODES, SHARES, SOFT
from onnxcam.methods.estimate.quadrature import CELLS
from onnxcam.methods.weighting import Weighting
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Value

LEVEL = 1.0
"""Prior variance of the scores' common level, of which the mean was taken away."""
SMALLEST = 1e-9
"""The least variance; rounding would make it negative."""
TINY = 1e-37
"""What is divided by in the place of zero. A number of float32 too: OpenVINO computes float64 so."""


@dataclass(frozen=True, eq=False)
class Points:
    """Masks as points (M,cells), centred: their roots, one of the sets of coordinates of Geometry (methods/estimate).

    valid (M,1) bool: which are masks. squares (M,1): squared lengths. spread (): the mean squared distance.
    """

    b: Builder
    points: Value
    valid: Value
    squares: Value
    spread: Value

    @staticmethod
    def of(b: Builder, maps: Value, valid: Value) -> "Points":
        """maps (M,cells) float32."""
        x = b.cast(maps, DOUBLE)
        low, high = (b.reduce(f"Reduce{end}", x, [1]) for end in ("Min", "Max"))
        extent = b("Where", valid, b("Sub", high, low), b.constant(1, np.float64))
        root = b("Where", valid, b("Sqrt", b("Div", b("Sub", x, low), extent)), b.constant(0, np.float64))
        count = b("Max", b.reduce("ReduceSum", b.cast(valid, DOUBLE), [0, 1]), b.constant(1, np.float64))
        mean = b("Div", b.reduce("ReduceSum", root, [0]), count)
        points = b("Where", valid, b("Sub", root, mean), b.constant(0, np.float64))
        squares = b.reduce("ReduceSum", b("Mul", points, points), [1])
        whole = b("Div", b.reduce("ReduceSum", squares, [0, 1]), count)
        spread = b("Max", b("Mul", whole, b.constant(2, np.float64)), b.constant(1e-12, np.float64))
        return Points(b, points, valid, squares, spread)

    def take(self, places: Value) -> "Points":
        """Those at these places (n,)."""
        b = self.b
        points, valid, squares = (b("Gather", x, places, axis=0) for x in (self.points, self.valid, self.squares))
        return Points(b, points, valid, squares, self.spread)

    def first(self, count: int) -> "Points":
        """The first so many."""
        return self.take(self.b.constant(np.arange(count), np.int64))

    def covariance(self, other: "Points", lengths: Sequence[float], linear: float) -> Value:
        """(lengths,M,N) prior covariance of these with the other points, in units of the signal's variance."""
        b = self.b
        inner = b("MatMul", self.points, b("Transpose", other.points, perm=[1, 0]))
        twice = b("Mul", inner, b.constant(2, np.float64))
        both = b("Add", self.squares, b("Transpose", other.squares, perm=[1, 0]))
        squared = b("Div", b("Max", b("Sub", both, twice), b.constant(0, np.float64)), self.spread)
        scale = np.asarray([math.sqrt(5) / length for length in lengths]).reshape(-1, 1, 1)
        d = b("Mul", b("Sqrt", squared), b.constant(scale, np.float64))
        one = b.constant(1, np.float64)
        growth = b("Add", one, b("Add", d, b("Mul", b("Mul", d, d), b.constant(1 / 3, np.float64))))
        smooth = b("Mul", growth, b("Exp", b("Neg", d)))
        part = b("Mul", b("Div", twice, self.spread), b.constant(linear, np.float64))
        return b("Add", smooth, b("Add", part, b.constant(LEVEL, np.float64)))

    def variance(self, linear: float) -> Value:
        """(M,1) prior variance."""
        b = self.b
        part = b("Mul", b("Div", self.squares, self.spread), b.constant(2 * linear, np.float64))
        return b("Add", part, b.constant(1 + LEVEL, np.float64))


@dataclass(frozen=True, eq=False)
class LinkGraph:
    """Between scores and weights of one image's targets, as Weighting.link() chooses it. top, original: (1,T).

    top: the largest score so far, times the sign of a softmax's exponent. original: the score of the unmasked image.
    """

    b: Builder
    weighting: Weighting
    top: Value
    original: Value

    @staticmethod
    def of(b: Builder, weighting: Weighting, scores: Value, known: Value, original: Value) -> "LinkGraph":
        """scores (n,T), of which those count that are known (n,1)."""
        signed = b("Neg", scores) if weighting.softmax and weighting.destructive else scores
        top = b.reduce("ReduceMax", b("Where", known, signed, b.constant(-1e300, np.float64)), [0])
        return LinkGraph(b, weighting, top, original)

    @property
    def _soft(self) -> Value:
        b = self.b
        return b("Max", b("Mul", self.top, b.constant(SOFT, np.float64)), b.constant(TINY, np.float64))

    def forward(self, scores: Value) -> Value:
        """Scores to the numbers of the process."""
        if self.weighting.softmax:
            return scores
        b, soft, one = self.b, self._soft, self.b.constant(1, np.float64)
        p = b("Max", b("Min", scores, one), b.constant(0, np.float64))
        return b("Log", b("Div", b("Add", p, soft), b("Add", b("Sub", one, p), soft)))

    def weight(self, scores: Value) -> Value:
        """Scores to weights."""
        b = self.b
        if self.weighting.softmax:
            signed = b("Neg", scores) if self.weighting.destructive else scores
            return b("Exp", b("Min", b("Sub", signed, self.top), b.constant(30, np.float64)))
        return b("Sub", self.original, scores) if self.weighting.destructive else scores

    def backward(self, numbers: Value) -> Value:
        """Numbers of the process to weights."""
        if self.weighting.softmax:
            return self.weight(numbers)
        b, soft, one = self.b, self._soft, self.b.constant(1, np.float64)
        wide = b("Add", one, b("Mul", soft, b.constant(2, np.float64)))
        p = b("Sub", b("Mul", b("Sigmoid", numbers), wide), soft)
        return self.weight(b("Max", b("Min", p, one), b.constant(0, np.float64)))

    def moments(self, mean: Value, deviation: Value) -> tuple[Value, Value]:
        """(M,T) mean and deviation of the weights, from those (M,T) of the process's numbers."""
        b = self.b
        nodes, shares = (b.constant(x.reshape(-1, 1, 1), np.float64) for x in (NODES, SHARES))
        values = self.backward(b("Add", mean, b("Mul", deviation, nodes)))
        expected = b.reduce("ReduceSum", b("Mul", shares, values), [0])
        off = b("Sub", values, expected)
        variance = b.reduce("ReduceSum", b("Mul", shares, b("Mul", off, off)), [0], keepdims=False)
        return b.squeeze(expected, [0]), b("Sqrt", variance)


def averaged(b: Builder, maps: Value, grid: tuple[int, ...]) -> Value:
    """Maps (M,1,*grid) as (M,cells) float64 with at most CELLS cells; blocks of cells are averaged until there are."""
    sides = list(grid)
    while math.prod(sides) > CELLS:
        axis = int(np.argmax(sides))
        steps = [2 if i == axis else 1 for i in range(len(sides))]
        maps = b("AveragePool", maps, kernel_shape=steps, strides=steps, ceil_mode=1)
        sides[axis] = -(-sides[axis] // 2)
    return b.cast(b.reshape(maps, [-1, math.prod(sides)]), DOUBLE)
