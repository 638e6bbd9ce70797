"""Numbers that follow from constants alone: folded() computes them where an exporter left the arithmetic in the graph.

Exporters write a mean of (3,) and shape it in the graph, or divide by a constant that is cast first.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.ir import Node, Value, constant, integer, integers, is_standard

Array = npt.NDArray[np.generic]
Numbers = npt.NDArray[np.float64]

LARGEST = 2**24
"""Numbers of a constant that is folded; what normalises a picture is smaller."""
MOST_STEPS = 256
"""Operators on the way from constants to a folded number."""


def folded(value: Value | None) -> Array | None:
    """The array of a constant, or of what is computed from constants by arithmetic and reshaping; else None.

    Also None for what takes more than MOST_STEPS operators or LARGEST numbers, which a file may ask for without end.
    """
    if value is None or constant(value) is not None:
        return _stored(value)
    known: dict[int, Array | None] = {}
    stack = [value]
    while stack:  # without recursion: a chain may be longer than Python's stack
        last = stack[-1]
        node = _foldable(last) if id(last) not in known else None
        inputs = [v for v in node.inputs if v is not None] if node is not None else []
        pending = [v for v in inputs if id(v) not in known]
        if pending and len(known) + len(stack) < MOST_STEPS:
            stack.extend(pending)
            continue
        stack.pop()
        if id(last) not in known:
            arrays = [known.get(id(v)) for v in inputs]
            known[id(last)] = _stored(last) if node is None else _computed(node, arrays)
    return known[id(value)]


def _stored(value: Value | None) -> Array | None:
    """The array of a constant that is not too large."""
    array = constant(value)
    return array if array is None or array.size <= LARGEST else None


def _foldable(value: Value) -> Node | None:
    """The node that computes it, if there is a rule for it."""
    node = value.producer() if constant(value) is None else None
    if node is None or not is_standard(node) or node.op_type not in _RULES or node.outputs[0] is not value:
        return None
    return node


def _computed(node: Node, arrays: Sequence[Array | None]) -> Array | None:
    """The node's output for these inputs; None where one is not known, or the output is too large."""
    inputs = [array for array in arrays if array is not None]
    if not inputs or len(inputs) < len(arrays):
        return None
    try:
        if _size(node, inputs) > LARGEST:
            return None
        return _RULES[node.op_type](node, inputs)
    except (ValueError, IndexError, TypeError):  # a graph that contradicts itself, which the runtime refuses later
        return None


def _size(node: Node, inputs: Sequence[Array]) -> int:
    """Numbers of the output, or more."""
    if node.op_type == "Expand":
        sides = tuple(int(side) for side in inputs[1].reshape(-1))
        return math.prod(np.broadcast_shapes(inputs[0].shape, sides))
    if node.op_type == "Concat":
        return sum(array.size for array in inputs)
    if node.op_type in ("Add", "Sub", "Mul", "Div", "Pow", "DequantizeLinear"):
        return math.prod(np.broadcast_shapes(*(array.shape for array in inputs)))
    return inputs[0].size


def _real(function: Callable[..., Numbers]) -> Callable[[Node, list[Array]], Array]:
    def apply(node: Node, inputs: list[Array]) -> Array:
        with np.errstate(all="ignore"):
            return function(*(np.asarray(a, np.float64) for a in inputs))

    return apply


def _reshape(node: Node, inputs: list[Array]) -> Array:
    shape = [inputs[0].shape[i] if d == 0 else d for i, d in enumerate(int(d) for d in inputs[1].reshape(-1))]
    return inputs[0].reshape(shape)


def _unsqueeze(node: Node, inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], tuple(integers(node, "axes") or (int(i) for i in inputs[1].reshape(-1))))


def _squeeze(node: Node, inputs: list[Array]) -> Array:
    axes = integers(node, "axes") or ([int(i) for i in inputs[1].reshape(-1)] if len(inputs) > 1 else None)
    return np.squeeze(inputs[0], tuple(axes) if axes is not None else None)


def _transpose(node: Node, inputs: list[Array]) -> Array:
    return np.transpose(inputs[0], integers(node, "perm"))


def _expand(node: Node, inputs: list[Array]) -> Array:
    shape = tuple(int(d) for d in inputs[1].reshape(-1))
    return np.broadcast_to(inputs[0], np.broadcast_shapes(inputs[0].shape, shape))


def _concat(node: Node, inputs: list[Array]) -> Array:
    return np.concatenate(inputs, integer(node, "axis", 0))


def _slice(node: Node, inputs: list[Array]) -> Array:
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (integers(node, name, i) for i, name in enumerate(names, start=1))
    if starts is None or ends is None:
        raise ValueError("a Slice has both")
    cuts = [slice(None)] * inputs[0].ndim
    for i, axis in enumerate(axes or range(len(starts))):
        step, length = steps[i] if steps else 1, inputs[0].shape[axis]
        end = None if step < 0 and ends[i] < -length else ends[i]
        cuts[axis] = slice(starts[i], end, step)
    return inputs[0][tuple(cuts)]


def _dequantised(node: Node, inputs: list[Array]) -> Array:
    zero = np.asarray(inputs[2], np.float64) if len(inputs) > 2 else 0.0
    return (np.asarray(inputs[0], np.float64) - zero) * np.asarray(inputs[1], np.float64)


def _same(node: Node, inputs: list[Array]) -> Array:
    return inputs[0]


_RULES: Mapping[str, Callable[[Node, list[Array]], Array]] = {
    "Identity": _same,
    "Cast": _same,
    "CastLike": _same,
    "Neg": _real(np.negative),
    "Sqrt": _real(np.sqrt),
    "Reciprocal": _real(np.reciprocal),
    "Add": _real(np.add),
    "Sub": _real(np.subtract),
    "Mul": _real(np.multiply),
    "Div": _real(np.divide),
    "Pow": _real(np.power),
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "Slice": _slice,
    "DequantizeLinear": _dequantised,
}
