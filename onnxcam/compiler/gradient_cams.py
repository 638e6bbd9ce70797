"""Grad-CAM and its kin as graphs: feature maps weighed by the gradient of the logit. methods/grad_cam.py is the same.

Sums run in float64 there and here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.compiler.batch_graph import differentiable_graph
from onnxcam.compiler.prepared import Prepared
from onnxcam.methods.grad_cam import TINY
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value

DOUBLE = onnx_ir.DataType.DOUBLE


@dataclass(frozen=True, eq=False)
class _Terms:
    """maps, gradient: (R,K,*grid) in float64. space: the axes of the grid."""

    b: Builder
    maps: Value
    gradient: Value
    space: Sequence[int]

    def number(self, value: float) -> Value:
        return self.b.constant(value, np.float64)

    def over_space(self, x: Value) -> Value:
        return self.b.reduce("ReduceSum", x, self.space)

    def over_channels(self, x: Value) -> Value:
        return self.b.reduce("ReduceSum", x, [1])

    def where(self, condition: Value, x: Value, otherwise: float) -> Value:
        return self.b("Where", condition, x, self.number(otherwise))


Combine = Callable[[_Terms, Prepared], Value]
"""Gives the raw map (R,1,*grid) in float64."""


def by_mean_gradient(terms: _Terms, prepared: Prepared) -> Value:
    b = terms.b
    return terms.over_channels(b("Mul", b.reduce("ReduceMean", terms.gradient, terms.space), terms.maps))


def by_alpha(terms: _Terms, prepared: Prepared) -> Value:
    b, g = terms.b, terms.gradient
    zero = b("Equal", b("Abs", g), terms.number(0))
    square = b("Where", zero, terms.number(1), b("Mul", g, g))
    below = b("Add", terms.number(2), b("Mul", terms.over_space(terms.maps), g))
    epsilon = float(prepared.method.options["epsilon"])
    if epsilon:
        below = b("Add", below, b("Div", terms.number(epsilon), square))
    undefined = b("Or", zero, b("Equal", below, terms.number(0)))
    alpha = b(
        "Where", undefined, terms.number(0), b("Div", terms.number(1), terms.where(b("Not", undefined), below, 1))
    )
    weights = terms.over_space(b("Mul", alpha, b("Relu", g)))
    return terms.over_channels(b("Mul", weights, terms.maps))


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
    return terms.over_channels(b("Mul", terms.where(present, share, 0), terms.maps))


def by_gain(terms: _Terms, prepared: Prepared) -> Value:
    """CAM: behind a mean and a linear layer, what a channel's ones give the logit is the sum of its gradient."""
    return terms.over_channels(terms.b("Mul", terms.over_space(terms.gradient), terms.maps))


def gradient_cam(combine: Combine) -> Callable[[Prepared], Model]:
    """A builder: the map is made by `combine` of the features and their gradient, and rectified on the grid."""

    def build(prepared: Prepared) -> Model:
        graph = differentiable_graph(prepared, prepared.anatomy.features.tensor)
        b, rank = graph.b, 2 + len(prepared.anatomy.features.grid)
        maps, gradient = (b.cast(graph.maps(x), DOUBLE) for x in (graph.features, graph.gradient()))
        raw = combine(_Terms(b, maps, gradient, range(2, rank)), prepared)
        return graph.publish(b.cast(raw, onnx_ir.DataType.FLOAT), coarse=True)

    return build
