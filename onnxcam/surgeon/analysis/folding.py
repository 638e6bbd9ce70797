"""Numbers that follow from constants alone: folded() computes them where an exporter left the arithmetic in the graph.

Exporters write a mean of (3,) and shape it in the graph, or divide by a constant that is cast first.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.ir import Node, Value, constant, integer, integers, is_standard

Array = npt.NDArray[np.generic]
Numbers = npt.NDArray[np.float64]

LARGEST = 2**24
"""Numbers of a constant that is folded; what normalises a picture is smaller."""


def folded(value: Value | None) -> Array | None:
    """The array of a constant, or of what is computed from constants by arithmetic and reshaping; else None."""
    array = constant(value)
    if array is not None or value is None:
        return array if array is None or array.size <= LARGEST else None
    node = value.producer()
    if node is None or not is_standard(node) or node.op_type not in _RULES or node.outputs[0] is not value:
        return None
    inputs = [folded(v) for v in node.inputs if v is not None]
    if not inputs or any(array is None for array in inputs):
        return None
    try:
        return _RULES[node.op_type](node, [array for array in inputs if array is not None])
    except (ValueError, IndexError, TypeError):  # a graph that contradicts itself, which the runtime refuses later
        return None


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
