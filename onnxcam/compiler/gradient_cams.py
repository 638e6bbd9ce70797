"""Grad-CAM and its kin as graphs: feature maps weighed by the gradient of the logit. methods/grad_cam.py is the same.

Sums run in float64 there and here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.compiler.batch_graph import differentiable_graph
from onnxcam.compiler.element_types import DOUBLE
from onnxcam.compiler.prepared import Prepared
from onnxcam.methods.grad_cam import TINY
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value


@dataclass(frozen=True, eq=False)
class _Terms:
    """maps, gradient: (R,K,*grid) in float64. channels: K."""

    b: Builder
    maps: Value
    gradient: Value
    channels: int
    grid: tuple[int, ...]

    @property
    def space(self) -> range:
        """The axes of the grid."""
        return range(2, 2 + len(self.grid))

    def number(self, value: float) -> Value:
        return self.b.constant(value, np.float64)

    def over_space(self, x: Value) -> Value:
        return self.b.reduce("ReduceSum", x, self.space)

    def over_channels(self, x: Value) -> Value:
        return self.b.reduce("ReduceSum", x, [1])

    def weighted(self, weights: Value) -> Value:
        """(R,1,*grid): the sum of the maps times the weights (R,K,1,...) of the channels."""
        b, channels, grid = self.b, self.channels, self.grid
        flat = b.reshape(self.maps, [-1, channels, math.prod(grid)])
        return b.reshape(b("MatMul", b.reshape(weights, [-1, 1, channels]), flat), [-1, 1, *grid])

    def unless_zero(self, x: Value, otherwise: float) -> Value:
        return self.b("Where", self.b("Equal", x, self.number(0)), self.number(otherwise), x)

    def where(self, condition: Value, x: Value, otherwise: float) -> Value:
        return self.b("Where", condition, x, self.number(otherwise))


Combine = Callable[[_Terms, Prepared], Value]
"""Gives the raw map (R,1,*grid) in float64."""


def by_mean_gradient(terms: _Terms, prepared: Prepared) -> Value:
    b = terms.b
    return terms.weighted(b.reduce("ReduceMean", terms.gradient, terms.space))


def by_alpha(terms: _Terms, prepared: Prepared) -> Value:
    """alpha ReLU(g) = ReLU(g) / (2 + sum(A) g), which is 0 where g is: no other case is needed for that."""
    b, g = terms.b, terms.gradient
    below = b("Add", terms.number(2), b("Mul", terms.over_space(terms.maps), g))
    epsilon = float(prepared.method.options["epsilon"])
    if epsilon:
        square = terms.unless_zero(b("Mul", g, g), 1)
        below = b("Add", below, b("Div", terms.number(epsilon), square))
    return terms.weighted(terms.over_space(b("Div", b("Relu", g), terms.unless_zero(below, np.inf))))


def by_positive_cell(terms: _Terms, prepared: Prepared) -> Value:
    return terms.over_channels(terms.b("Mul", terms.b("Relu", terms.gradient), terms.maps))


def by_cell(terms: _Terms, prepared: Prepared) -> Value:
    return terms.over_channels(terms.b("Mul", terms.gradient, terms.maps))


def by_activation(terms: _Terms, prepared: Prepared) -> Value:
    b = terms.b
    total = terms.over_space(terms.maps)
    size = b("Abs", total)
    present = b("Greater", size, b("Mul", terms.number(TINY), b.reduce("ReduceMax", size, [1])))
    share = b("Div", terms.over_space(b("Mul", terms.gradient, terms.maps)), terms.where(present, total, 1))
    return terms.weighted(terms.where(present, share, 0))


def by_gain(terms: _Terms, prepared: Prepared) -> Value:
    """CAM: behind a mean and a linear layer, what a channel's ones give the logit is the sum of its gradient."""
    return terms.weighted(terms.over_space(terms.gradient))


def gradient_cam(combine: Combine) -> Callable[[Prepared], Model]:
    """A builder: the map is made by `combine` of the features and their gradient, and rectified on the grid."""

    def build(prepared: Prepared) -> Model:
        graph = differentiable_graph(prepared, prepared.anatomy.features.tensor)
        b, features = graph.b, prepared.anatomy.features
        maps, gradient = (b.cast(graph.maps(x), DOUBLE) for x in (graph.features, graph.gradient()))
        raw = combine(_Terms(b, maps, gradient, features.channels, features.grid), prepared)
        return graph.publish(b.cast(raw, onnx_ir.DataType.FLOAT), coarse=True)

    return build
