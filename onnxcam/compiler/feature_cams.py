"""Eigen-CAM and Recipro-CAM as graphs: no gradient, and at most the part of the network behind the features.

That part is a clone which shares the weights. methods/feature_cams.py is the same in numpy.
"""

import math

import numpy as np
import onnx_ir

from onnxcam.compiler.batch_graph import LARGEST_STORED, BatchGraph, only_sound, plain_graph
from onnxcam.compiler.element_types import DOUBLE, FLOAT
from onnxcam.compiler.loop_body import LoopBody
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.cell_maps import cell_tensor
from onnxcam.surgeon.graphs.finish_map import stretched
from onnxcam.surgeon.graphs.graft import graft
from onnxcam.surgeon.graphs.masked_score import upsampled
from onnxcam.surgeon.graphs.tail import TAIL_FEATURES, tail_model
from onnxcam.surgeon.graphs.tensor_names import TARGETS
from onnxcam.surgeon.ir import Model, Value, opset
from onnxcam.surgeon.passes.opset import raise_opset

SQUARINGS = 14
"""The matrix is raised to the power of 2**14, where a second component of 0.999 times the first is 1e-7 of it."""
LARGEST_VARIANTS = 2**28
"""Numbers of the changed features of one image that a graph may hold at a time: 1 GiB."""


def eigen_cam(prepared: Prepared) -> Model:
    """The first principal component of the features, as the eigenvector of a Gram matrix that is squared repeatedly.

    The sum over cells or over channels is squared, whichever is smaller; both give the same component.
    """
    graph = plain_graph(prepared)
    b, features = graph.b, prepared.anatomy.features
    cells = math.prod(features.grid)
    maps = b.cast(b.reshape(graph.maps(graph.features), [-1, features.channels, cells]), DOUBLE)
    centred = b("Sub", maps, b.reduce("ReduceMean", maps, [2]))
    by_cell = b("Transpose", centred, perm=[0, 2, 1])
    if cells <= features.channels:
        component = _principal(b, b("MatMul", by_cell, centred), cells)
        squared = b("MatMul", b("MatMul", by_cell, centred), component)
        strength = b("Sqrt", b("MatMul", b("Transpose", component, perm=[0, 2, 1]), squared))
        component = b("Mul", component, strength)
    else:
        component = b("MatMul", by_cell, _principal(b, b("MatMul", centred, by_cell), features.channels))
    mean = b("Transpose", b.reduce("ReduceMean", maps, [1]), perm=[0, 2, 1])
    mean = b("Sub", mean, b.reduce("ReduceMean", mean, [1]))
    agreement = b.reduce("ReduceSum", b("Mul", component, mean), [1])
    turned = b("Where", b("Less", agreement, b.constant(0, np.float64)), b("Neg", component), component)
    raw = b.cast(b.reshape(turned, [-1, 1, *features.grid]), FLOAT)
    return graph.publish(graph.for_each_map(raw, 2 + len(features.grid)), coarse=True)


def _principal(b: Builder, gram: Value, side: int) -> Value:
    """(N,side,1): the eigenvector of the largest eigenvalue of each matrix (N,side,side) in float64, of length 1.

    Zeros for a matrix of zeros.
    """
    power = gram
    for _ in range(SQUARINGS):
        power = b("Div", power, _not_zero(b, b.reduce("ReduceMax", b("Abs", power), [1, 2])))
        power = b("MatMul", power, power)
    # Every column of the power is a multiple of the vector; the one with the largest diagonal is the longest.
    diagonal = b.reduce("ReduceSum", b("Mul", power, _identity(b, side, DOUBLE)), [2], keepdims=False)
    longest = b.unsqueeze(b("ArgMax", diagonal, axis=1, keepdims=1), [2])
    indices = b("Expand", longest, b("Concat", b("Shape", diagonal), b.constant([1], np.int64), axis=0))
    column = b("GatherElements", power, indices, axis=2)
    column = b("MatMul", gram, _unit(b, column))  # one more step with the matrix itself, against rounding
    return _unit(b, column)


def _identity(b: Builder, side: int, dtype: onnx_ir.DataType) -> Value:
    """(side,side), made when the graph runs: a file need not hold it."""
    numbers = np.arange(side)
    return b.cast(b("Equal", b.constant(numbers[:, None], np.int64), b.constant(numbers, np.int64)), dtype)


def _unit(b: Builder, vector: Value) -> Value:
    length = b("Sqrt", b.reduce("ReduceSum", b("Mul", vector, vector), [1]))
    return b("Div", vector, _not_zero(b, length))


def _not_zero(b: Builder, x: Value) -> Value:
    """x, and 1 where it is 0."""
    return b("Where", b("Equal", x, b.constant(0, np.float64)), b.constant(1, np.float64), x)


def recipro_cam(prepared: Prepared) -> Model:
    """The class probability when one cell of the features is left: all cells of all images in one run of the tail."""
    graph = plain_graph(prepared)
    b, features, size = graph.b, prepared.anatomy.features, prepared.size
    cells, channels, grid = math.prod(features.grid), features.channels, features.grid
    check_variants(prepared, cells)
    maps = b.reshape(graph.maps(graph.features), [-1, channels, cells])
    by_cell = b.unsqueeze(b("Transpose", maps, perm=[0, 2, 1]), [3])  # (N,cells,K,1)
    alone = b("Mul", by_cell, b.unsqueeze(_identity(b, cells, FLOAT), [0, 2]))
    table = tail_scores(graph, b.reshape(alone, [-1, channels, *grid]), cells, masked_score.PROBABILITY)
    scores = b("MatMul", table, b.unsqueeze(graph.chosen, [2]))  # (R,cells,1)
    raw = only_sound(b, b.reshape(scores, [-1, 1, *grid]), len(grid))
    space = range(2, 2 + len(size))
    above = b("Sub", raw, b.reduce("ReduceMin", raw, space))
    shown = stretched(b, upsampled(b, above, grid, size, LARGEST_STORED), space)
    return graph.publish_shown(shown, raw)


def check_variants(prepared: Prepared, variants: int) -> None:
    """Raises CompileError where so many variants of the features cannot be run together."""
    features = prepared.anatomy.features
    if prepared.fixed is not None:
        raise CompileError(
            f"{prepared.method.name} runs many variants of the features together, and this model takes one image a "
            f"run; compile grad-cam or score-cam"
        )
    if variants * features.channels * math.prod(features.grid) > LARGEST_VARIANTS:
        raise CompileError(
            f"{variants} variants of features of {features.channels} channels do not fit into memory together; name a "
            f"smaller --layer, or compile grad-cam"
        )


def tail_scores(graph: BatchGraph, variants: Value, count: int, output: str, body: LoopBody | None = None) -> Value:
    """(N,count,classes) scores of the tail on `count` variants (N*count,K,*grid) of the features of each image.

    output: LOGIT or PROBABILITY. body: of a Loop in which the tail runs, with the weights of the graph around it.
    """
    prepared, model = graph.prepared, graph.model
    b = body.b if body is not None else graph.b
    features, opened = prepared.anatomy.features, prepared.opened
    tail = tail_model(prepared.model, prepared.anatomy, prepared.size, batch=None, extra=opened.network.extra)
    if opset(tail) != opset(model):
        tail = raise_opset(tail)
    names = {str(v.name) for v in tail.graph.inputs}
    original = _repeated(b, graph.features, count, 1 + len(features.sides)) if features.order.extra else graph.features
    inputs = {TAIL_FEATURES: cell_tensor(b, variants, features.order, features.sides, original)}
    classes = prepared.anatomy.logits.classes
    inputs[TARGETS] = b.constant(np.arange(classes), np.int64)
    image = masked_score.tensor_named(model, prepared.anatomy.image.name)
    if masked_score.IMAGE in names:
        pixels = b.cast(image, FLOAT)
        inputs[masked_score.IMAGE] = _repeated(b, pixels, count, len(prepared.anatomy.image.layout))
    for name, batched in opened.network.extra.items():
        if name in names:
            value = masked_score.tensor_named(model, name)
            rank = len(opened.inputs[name].shape)
            inputs[name] = _repeated(b, value, count, rank) if batched else value
    scores = graft(body.model if body is not None else model, tail, inputs, "onnxcam/tail", model)[output]
    return b.reshape(scores, [-1, count, classes])


def _repeated(b: Builder, x: Value, count: int, rank: int) -> Value:
    """(N,...) of this rank to (N*count,...), each entry `count` times in a row."""
    sides = b("Shape", x)
    length = b("Gather", sides, b.constant([0], np.int64), axis=0)
    rest = b("Slice", sides, b.constant([1], np.int64), b.constant([rank], np.int64))
    times = b.constant([count], np.int64)
    wide = b("Expand", b.unsqueeze(x, [1]), b("Concat", length, times, rest, axis=0))
    return b("Reshape", wide, b("Concat", b.constant([-1], np.int64), rest, axis=0))
