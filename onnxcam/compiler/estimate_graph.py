"""The last step of Score-CAM with a budget: the weights of all maps, from the scores of some.

Several kernels are averaged by their likelihood, as Quadrature.posterior() of methods/estimate does.
"""

import numpy as np
import onnx_ir

from onnxcam.compiler.choice_graph import LINEAR
from onnxcam.compiler.element_types import BOOL, DOUBLE, INT64
from onnxcam.compiler.process_graph import SMALLEST, LinkGraph, Points
from onnxcam.methods.weighting import Weighting
from onnxcam.surgeon.builder import Builder, empty_model
from onnxcam.surgeon.ir import Value

LENGTHS, NOISES = (0.5, 0.7, 1.0, 1.4), (1e-2, 1e-1)
"""The kernels that are averaged."""
KERNELS = len(LENGTHS) * len(NOISES)


def expected_weights(
    b: Builder, weighting: Weighting, points: Points, places: Value, scores: Value, original: Value
) -> Value:
    """(M,T) expected weights of the masks, and the known ones.

    places (n,) int64: the masks that were scored, below 0 for none. scores (n,T). original (1,T): of the unmasked
    image.
    """
    zero, one = b.constant(0, np.float64), b.constant(1, np.float64)
    is_known = b("Not", b("Less", b.unsqueeze(places, [1]), b.constant(0, np.int64)))  # (n,1)
    known = b.cast(is_known, DOUBLE)
    link = LinkGraph.of(b, weighting, scores, is_known, original)
    numbers = b("Where", is_known, link.forward(scores), zero)
    count = b("Max", b.reduce("ReduceSum", known, [0, 1]), one)
    level = b("Div", b.reduce("ReduceSum", numbers, [0]), count)
    values = b("Where", is_known, b("Sub", numbers, level), zero)
    places_or_first = b("Max", places, b.constant(0, np.int64))
    smooth = points.covariance(points.take(places_or_first), LENGTHS, LINEAR)  # (lengths,M,n)
    smooth = b("Mul", smooth, b("Transpose", known, perm=[1, 0]))
    covariance = b("Concat", *[smooth] * len(NOISES), axis=0)
    inner = b("Mul", b("Gather", covariance, places_or_first, axis=1), known)
    noise = np.repeat(NOISES, len(LENGTHS)).reshape(-1, 1)
    diagonal = b("Where", b("Transpose", is_known, perm=[1, 0]), b.constant(noise, np.float64), one)  # (H,n)
    inverse, log_determinant = _inverse(b, inner, diagonal)
    solved = b("MatMul", inverse, values)  # (H,n,T)
    square = b.reduce("ReduceSum", b("Mul", solved, values), [1])  # (H,1,T)
    scale = b("Max", b("Div", square, count), b.constant(1e-12, np.float64))
    likelihood = b("Add", b("Mul", b("Log", scale), count), b.unsqueeze(log_determinant, [1, 2]))
    share = b("Softmax", b("Mul", likelihood, b.constant(-0.5, np.float64)), axis=0)
    means = b("MatMul", covariance, solved)  # (H,M,T)
    explained = b.reduce("ReduceSum", b("Mul", b("MatMul", covariance, inverse), covariance), [2])
    left = b("Max", b("Sub", points.variance(LINEAR), explained), b.constant(SMALLEST, np.float64))  # (H,M,1)
    mean = b.reduce("ReduceSum", b("Mul", share, means), [0])
    off = b("Sub", means, mean)
    spread = b("Add", b("Mul", left, scale), b("Mul", off, off))
    variance = b.reduce("ReduceSum", b("Mul", share, spread), [0], keepdims=False)
    expected, _ = link.moments(b("Add", b.squeeze(mean, [0]), level), b("Sqrt", variance))
    hits = b("Equal", b("Range", *_bounds(b, points)), b.unsqueeze(places, [1]))  # (n,M)
    hits = b.cast(b("Transpose", hits, perm=[1, 0]), DOUBLE)
    measured = b("MatMul", hits, b("Where", is_known, link.weight(scores), zero))
    scored = b("Greater", b.reduce("ReduceSum", hits, [1]), zero)
    return b("Where", scored, measured, expected)


def _bounds(b: Builder, points: Points) -> tuple[Value, Value, Value]:
    count = b("Gather", b("Shape", points.points), b.constant(0, np.int64), axis=0)
    return b.constant(0, np.int64), count, b.constant(1, np.int64)


def _inverse(b: Builder, matrices: Value, diagonal: Value) -> tuple[Value, Value]:
    """Inverses (H,n,n) of symmetric positive definite matrices (H,n,n) plus diagonals (H,n), and log determinants (H,).

    Gauss-Jordan elimination in a Loop of n turns, without a search for pivots, which such matrices do not need.
    """
    count = b("Gather", b("Shape", diagonal), b.constant(1, np.int64), axis=0)
    places = b("Range", b.constant(0, np.int64), count, b.constant(1, np.int64))
    eye = b.cast(b("Equal", places, b.unsqueeze(places, [1])), DOUBLE)
    start = b("Add", matrices, b("Mul", eye, b.unsqueeze(diagonal, [1])))
    unit = b("Add", b("Mul", start, b.constant(0, np.float64)), eye)
    both = b("Concat", start, unit, axis=2)
    logs = b("Mul", b.reduce("ReduceSum", diagonal, [1], keepdims=False), b.constant(0, np.float64))
    step = empty_model("onnxcam/elimination")
    inside = Builder(step, "onnxcam/elimination")
    turn, goes_on = _value("onnxcam/elimination/turn", INT64), _value("onnxcam/elimination/goes_on", BOOL)
    table, total = _value("onnxcam/elimination/table", DOUBLE), _value("onnxcam/elimination/total", DOUBLE)
    step.graph.inputs.extend([turn, goes_on, table, total])
    place = inside.reshape(turn, [1])
    row = inside("Gather", table, place, axis=1)  # (H,1,2n)
    pivot = inside("Gather", row, place, axis=2)  # (H,1,1)
    row = inside("Div", row, pivot)
    column = inside("Gather", table, place, axis=2)  # (H,n,1)
    here = inside.cast(inside("Equal", inside.unsqueeze(places, [1]), place), DOUBLE)
    factor = inside("Sub", column, here)
    left = inside("Sub", table, inside("Mul", factor, row))
    grown = inside("Add", total, inside("Log", inside.squeeze(pivot, [1, 2])))
    step.graph.outputs.extend([inside("Identity", goes_on), left, grown])
    result, total_end = b.several("Loop", count, b.constant(True, np.bool_), both, logs, outputs=2, body=step.graph)
    right = b("Slice", result, b.unsqueeze(count, [0]), b.constant([2**31 - 1], np.int64), b.constant([2], np.int64))
    return right, total_end


def _value(name: str, dtype: onnx_ir.DataType) -> Value:
    shape = onnx_ir.Shape([]) if dtype in (INT64, BOOL) else None
    return onnx_ir.Value(name=name, type=onnx_ir.TensorType(dtype), shape=shape)
