"""Says for each number of a tensor on which of several earlier tensors it may depend, as bits of an integer array.

dependence() walks forward through the graph with one NumPy array per tensor, in which bit k of an entry is set where
source k may reach it. Operators that move numbers move the bits, elementwise ones join them, and sums join them along
their axis. Whatever is not known joins everything, so a clear bit is a fact and a set one a possibility. detections.py
reads from it which feature map a row of a detector's table comes from.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.ir import Node, Shape, Shapes, Value, constant, integer, integers
from onnxcam.types import Arrays

Bits = npt.NDArray[np.unsignedinteger]

MOST_SOURCES = 64
LARGEST = 2**25
"""Numbers of a tensor that is followed; the bits of a larger one would take too much memory."""
ELEMENTWISE = frozenset(
    "Abs Acos Add And Asin Atan BatchNormalization Cast Ceil Celu Clip Cos DequantizeLinear Div Dropout Elu "
    "Equal Erf Exp FastGelu Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsNaN LeakyRelu "
    "Less LessOrEqual Log Max Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear QuickGelu Reciprocal Relu "
    "Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor".split()
)
RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
MOVES = RESHAPES | {"Identity", "Cast", "Transpose", "Slice", "Split", "Concat", "Gather", "Expand", "Tile", "Dropout"}
"""Operators whose results are numbers of their inputs, at other places."""
ALONG_AXIS = {"Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "CumSum": 0, "LpNormalization": -1}
"""Operators that mix the numbers along one axis and keep the shape, with the default of the axis."""
FLATTENING_ENDS = 13
"""The opset from which a softmax is taken along one axis, not over all axes from that one on."""


@dataclass(frozen=True)
class _Graph:
    """What a rule may ask: the shapes, the tensors that are constants or were seen to be fixed, and the bits so far."""

    shapes: Shapes
    fixed: Arrays
    bits: dict[str, Bits]
    dtype: "np.dtype[np.unsignedinteger]"

    def shape(self, value: Value | None) -> tuple[int, ...] | None:
        """The full shape of a tensor or weight; None where it is unknown."""
        if value is None:
            return None
        shape: Shape | None = self.shapes.get(str(value.name))
        if shape is None and (array := self.numbers(value)) is not None:
            shape = array.shape
        return None if shape is None or None in shape else tuple(int(d or 0) for d in shape)

    def numbers(self, value: Value | None) -> npt.NDArray[np.generic] | None:
        """The tensor's numbers where they do not depend on the image."""
        if value is None:
            return None
        array = constant(value)
        return array if array is not None else self.fixed.get(str(value.name))

    def of(self, value: Value | None) -> Bits | None:
        """The tensor's bits; None for one that no source reaches."""
        return self.bits.get(str(value.name)) if value is not None else None


def dependence(outputs: Sequence[Value], sources: Sequence[Value], shapes: Shapes, fixed: Arrays) -> list[Bits] | None:
    """For each output an array of its shape, in which bit k is set where sources[k] may reach the number.

    shapes: of every tensor. fixed: the numbers of tensors that follow from shapes and constants, by name. None where a
    shape is unknown, a tensor is too large, or there are more than MOST_SOURCES sources.
    """
    if not sources or len(sources) > MOST_SOURCES:
        return None
    dtype: np.dtype[np.unsignedinteger] = np.dtype(f"uint{next(n for n in (8, 16, 32, 64) if len(sources) <= n)}")
    graph = _Graph(shapes, fixed, {}, dtype)
    for k, source in enumerate(sources):
        shape = graph.shape(source)
        if shape is None:
            return None
        joined = graph.bits.get(str(source.name), np.zeros((), dtype))
        graph.bits[str(source.name)] = np.broadcast_to(joined | np.asarray(1 << k, dtype), shape)
    nodes = _between(outputs, sources)
    last_use = {str(v.name): i for i, node in enumerate(nodes) for v in node.inputs if v is not None}
    kept = {str(v.name) for v in (*outputs, *sources)}
    for i, node in enumerate(nodes):
        if not _follow(node, graph):
            return None
        for value in node.inputs:
            if value is not None and last_use[str(value.name)] == i and str(value.name) not in kept:
                graph.bits.pop(str(value.name), None)
    results: list[Bits] = []
    for output in outputs:
        shape, bits = graph.shape(output), graph.of(output)
        if shape is None:
            return None
        results.append(bits if bits is not None else np.zeros(shape, dtype))
    return results


def _between(outputs: Sequence[Value], sources: Sequence[Value]) -> list[Node]:
    """The nodes between the sources and the outputs, in the order of the graph."""
    ends, nodes, ahead = {id(v) for v in sources}, dict[int, Node](), list(outputs)
    while ahead:
        value = ahead.pop()
        node = value.producer()
        if id(value) in ends or node is None or id(node) in nodes:
            continue
        nodes[id(node)] = node
        ahead.extend(v for v in node.inputs if v is not None)
    if not nodes:
        return []
    graph = next(iter(nodes.values())).graph
    return [node for node in (graph if graph is not None else nodes.values()) if id(node) in nodes]


def _follow(node: Node, graph: _Graph) -> bool:
    """Sets the bits of a node's outputs. False where one has no known shape, or is too large."""
    if all(graph.of(v) is None for v in node.inputs) or node.op_type in ("Shape", "Size"):
        return True
    for position, output in enumerate(node.outputs):
        if not output.name or str(output.name) in graph.bits:
            continue
        shape = graph.shape(output)
        if shape is None or math.prod(shape) > LARGEST:
            return False
        rule = RULES.get(node.op_type)
        bits = rule(node, shape, graph, position) if rule is not None else None
        if bits is None or bits.shape != shape:
            bits = _everything(node, shape, graph)
        graph.bits[str(output.name)] = bits
    return True


def joined(bits: Bits, axes: Sequence[int], *, keepdims: bool = False) -> Bits:
    """The bits of all numbers along these axes in one."""
    kept: Bits = np.bitwise_or.reduce(bits, axis=tuple(axes), keepdims=True)
    return kept if keepdims else np.squeeze(kept, tuple(axes))


Rule = Callable[[Node, tuple[int, ...], _Graph, int], Bits | None]
"""The bits of one output of a node, by its shape and position; None where the rule does not fit."""


def _everything(node: Node, shape: tuple[int, ...], graph: _Graph) -> Bits:
    """Every number of the output may depend on every number of every input."""
    result = np.zeros((), graph.dtype)
    for value in node.inputs:
        bits = graph.of(value)
        if bits is not None and bits.size:
            result = result | joined(bits, range(bits.ndim))
    return np.broadcast_to(result, shape)


def _elementwise(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    if position:
        return None
    result = np.zeros((), graph.dtype)
    for value in node.inputs:
        bits = graph.of(value)
        if bits is not None:
            result = result | bits
    # A constant may be the larger operand.
    return np.broadcast_to(result, shape) if _broadcasts(result.shape, shape) else None


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return len(small) <= len(large) and all(a in (1, b) for a, b in zip(small[::-1], large[::-1], strict=False))


def _reshape(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    return bits.reshape(shape) if bits is not None and bits.size == math.prod(shape) else None


def _transpose(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    return bits.transpose(integers(node, "perm") or list(range(bits.ndim))[::-1]) if bits is not None else None


def _operand(node: Node, attribute: str, operand: int, graph: _Graph) -> list[int] | None:
    """Integers of an attribute or of an input, whose numbers may have been computed from shapes."""
    given = integers(node, attribute, operand)
    if given is not None or operand >= len(node.inputs):
        return given
    array = graph.numbers(node.inputs[operand])
    return None if array is None else [int(i) for i in array.reshape(-1)]


def _slice(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    starts, ends = _operand(node, "starts", 1, graph), _operand(node, "ends", 2, graph)
    if bits is None or starts is None or ends is None:
        return None
    axes, steps = _operand(node, "axes", 3, graph), _operand(node, "steps", 4, graph)
    if (axes is None and _has(node, 3)) or (steps is None and _has(node, 4)):
        return None
    part = [slice(None)] * bits.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = (axes[i] if axes is not None else i) % bits.ndim, steps[i] if steps is not None else 1
        size = bits.shape[axis]
        first = start + size if start < 0 else start
        stop = end + size if end < 0 else end
        if step < 0:
            part[axis] = slice(min(first, size - 1), None if stop < 0 else stop, step)
        else:
            part[axis] = slice(max(first, 0), max(stop, 0), step)
    return bits[tuple(part)]


def _has(node: Node, operand: int) -> bool:
    return operand < len(node.inputs) and node.inputs[operand] is not None


def _split(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    before = [graph.shape(v) for v in node.outputs[:position]]
    if bits is None or None in before:
        return None
    axis = integer(node, "axis", 0) % bits.ndim
    start = sum(s[axis] for s in before if s is not None)
    return bits[(slice(None),) * axis + (slice(start, start + shape[axis]),)]


def _concat(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    axis = integer(node, "axis", 0) % len(shape)
    parts = []
    for value in node.inputs:
        sizes, bits = graph.shape(value), graph.of(value)
        if sizes is None:
            return None
        parts.append(bits if bits is not None else np.zeros(sizes, graph.dtype))
    return np.concatenate(parts, axis)


def _gather(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    """Entries at fixed places; at computed places every entry along the axis may be meant."""
    bits, indices = graph.of(node.inputs[0]), graph.numbers(node.inputs[1])
    if bits is not None and indices is not None:
        return np.take(bits, indices.astype(np.int64), integer(node, "axis", 0))
    return None


def _gather_elements(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits, indices, axis = graph.of(node.inputs[0]), graph.numbers(node.inputs[1]), integer(node, "axis", 0)
    if bits is not None and indices is not None and indices.ndim == bits.ndim:
        return np.take_along_axis(bits, indices.astype(np.int64) % bits.shape[axis], axis)
    return None


def _expand(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    return np.broadcast_to(bits, shape) if bits is not None and _broadcasts(bits.shape, shape) else None


def _tile(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    if bits is None or len(shape) != bits.ndim or any(b and a % b for a, b in zip(shape, bits.shape, strict=True)):
        return None
    return np.tile(bits, [a // b if b else 1 for a, b in zip(shape, bits.shape, strict=True)])


def _pad(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits, pads = graph.of(node.inputs[0]), _operand(node, "pads", 1, graph)
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if bits is None or pads is None or len(pads) != 2 * bits.ndim or min(pads) < 0 or mode != "constant":
        return None
    return np.pad(bits, list(zip(pads[: bits.ndim], pads[bits.ndim :], strict=True)))


def _scatter(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    """Numbers that are written to fixed places, as `y[..., :2] = z` is exported."""
    indices, sizes = graph.numbers(node.inputs[1]), graph.shape(node.inputs[2])
    if indices is None or sizes is None or "reduction" in node.attributes:
        return None
    bits, updates = graph.of(node.inputs[0]), graph.of(node.inputs[2])
    result = np.array(np.broadcast_to(bits if bits is not None else graph.dtype.type(0), shape))
    places = indices.astype(np.int64)
    result[tuple(np.moveaxis(places, -1, 0))] = updates if updates is not None else 0
    return result


def _reduce(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits, over = graph.of(node.inputs[0]), _operand(node, "axes", 1, graph)
    if node.op_type in ("ArgMax", "ArgMin"):
        over = [integer(node, "axis", 0)]
    if bits is None or (over is None and _has(node, 1)):
        return None
    if not over:
        over = [] if integer(node, "noop_with_empty_axes", 0) else list(range(bits.ndim))
    axes = tuple(a % bits.ndim for a in over)
    return joined(bits, axes, keepdims=bool(integer(node, "keepdims", 1)))


def _along_axis(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    if bits is None:
        return None
    axis = integer(node, "axis", ALONG_AXIS[node.op_type])
    if node.op_type == "CumSum":
        numbers = graph.numbers(node.inputs[1])
        if numbers is None:
            return None
        axis = int(numbers.reshape(-1)[0])
    axes: tuple[int, ...] = (axis % bits.ndim,)
    if node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and _opset(node) < FLATTENING_ENDS:
        axes = tuple(range(integer(node, "axis", 1) % bits.ndim, bits.ndim))
    return np.broadcast_to(joined(bits, axes, keepdims=True), shape)


def _opset(node: Node) -> int:
    """The version of the default operator set; the newest where the graph does not say."""
    return node.graph.opset_imports.get("", FLATTENING_ENDS) if node.graph is not None else FLATTENING_ENDS


def _layer_norm(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    bits = graph.of(node.inputs[0])
    if bits is None or position:
        return None
    axes = tuple(range(integer(node, "axis", -1) % bits.ndim, bits.ndim))
    return np.broadcast_to(joined(bits, axes, keepdims=True), shape)


def _matmul(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    """Rows of the left operand and columns of the right one."""
    result = np.zeros((), graph.dtype)
    for value, axis in zip(node.inputs[:2], (-1, -2), strict=True):
        bits = graph.of(value)
        if bits is None:
            continue
        if bits.ndim < 2:
            return None
        if node.op_type == "Gemm" and integer(node, "transA" if axis == -1 else "transB", 0):
            bits = bits.swapaxes(-1, -2)
        result = result | joined(bits, (axis,), keepdims=True)
    added = graph.of(node.inputs[2]) if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    result = result if added is None else result | added
    return np.broadcast_to(result, shape) if _broadcasts(result.shape, shape) else None


def _pointwise(node: Node, shape: tuple[int, ...], graph: _Graph, position: int) -> Bits | None:
    """A convolution whose kernel is one cell, as the expectation over a box's distribution is written."""
    bits, weights = graph.of(node.inputs[0]), graph.shape(node.inputs[1])
    if bits is None or weights is None or any(side != 1 for side in weights[2:]) or bits.shape[2:] != shape[2:]:
        return None
    return np.broadcast_to(joined(bits, (1,), keepdims=True), shape)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(ALONG_AXIS, _along_axis),
    **dict.fromkeys(
        "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
        "ReduceSum ReduceSumSquare".split(),
        _reduce,
    ),
    "Transpose": _transpose, "Slice": _slice, "Split": _split, "Concat": _concat, "Gather": _gather,
    "GatherElements": _gather_elements, "ScatterND": _scatter, "Expand": _expand, "Tile": _tile, "Pad": _pad,
    "MatMul": _matmul, "Gemm": _matmul, "Conv": _pointwise, "LayerNormalization": _layer_norm,
}  # fmt: skip
