"""From an operand to the initializer that holds its numbers, through Cast, Reshape, Transpose, DequantizeLinear ..."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.surgeon.analysis.tracing import RANDOM
from onnxcam.surgeon.ir import Node, Value, constant, integer, integers

SAME_NUMBERS = frozenset({"Identity", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"})
MOVED_NUMBERS = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Gather"})
"""Operators through which a weight is followed; a Gather reads its rows."""
INTEGERS = (
    onnx_ir.DataType.INT4, onnx_ir.DataType.UINT4, onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8,
    onnx_ir.DataType.INT16, onnx_ir.DataType.UINT16, onnx_ir.DataType.INT32,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor of weights as the file stores it.

    value: the initializer. shape: as the operator reads it, None where that is not known. scale, zero: of integers, so
    that the real numbers are scale * (stored - zero), each of a shape that broadcasts with the array; None where they
    are not known. fan_in: how many inputs a number of the layer's result has, None where it is not known.
    """

    value: Value
    shape: tuple[int, ...] | None
    scale: npt.NDArray[np.float64] | None = None
    zero: npt.NDArray[np.float64] | None = None
    fan_in: int | None = None

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """The stored numbers, in the stored type."""
        array = constant(self.value)
        assert array is not None, "a stored tensor is an initializer"
        return array

    @property
    def dtype(self) -> onnx_ir.DataType:
        """The stored type."""
        assert self.value.const_value is not None
        return self.value.const_value.dtype

    @property
    def is_integer(self) -> bool:
        """Whether the numbers are quantised."""
        return self.dtype in INTEGERS

    @property
    def is_real(self) -> bool:
        """Whether the numbers are real ones: floats, or integers with a scale. Shapes and indices are neither."""
        return self.dtype.is_floating_point() or (self.is_integer and self.scale is not None)

    @cached_property
    def is_constant(self) -> bool:
        """Whether the tensor repeats one number."""
        return self.array.size < 2 or bool((self.array == self.array.reshape(-1)[0]).all())

    def scaled(self, scales: Sequence[Value | None], zero: Value | None, axis: int) -> "Stored":
        """The tensor with its scale: the product of these constants, one number or one for each place of the axis."""
        arrays = [constant(scale) for scale in scales]
        if any(array is None for array in arrays):
            return self
        product = np.prod(np.broadcast_arrays(*[np.asarray(a, np.float64).reshape(-1) for a in arrays]), axis=0)
        point = constant(zero)
        points = np.zeros(1) if point is None else np.asarray(point, np.float64).reshape(-1)
        if any(a.size not in (1, self.array.shape[axis] if self.array.ndim else 1) for a in (product, points)):
            return self  # blocks of an axis have scales of their own
        along = [-1 if i == axis % max(1, self.array.ndim) else 1 for i in range(self.array.ndim)]
        return replace(self, scale=product.reshape(along), zero=points.reshape(along))


def find_stored(value: Value | None) -> Stored | None:
    """The initializer behind a tensor; None where the numbers are computed in another way, or are no numbers."""
    path: list[Node] = []
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or node.op_type not in SAME_NUMBERS | MOVED_NUMBERS:
            return None
        path.append(node)
        value = node.inputs[0]
    if value is None or value.name is None or value.graph is None:
        return None
    stored = Stored(value, None)
    if not (stored.dtype.is_floating_point() or stored.is_integer):
        return None
    stored = replace(stored, shape=_shape_behind(tuple(stored.array.shape), path[::-1]))
    first = next((n for n in path[::-1] if n.op_type != "Identity"), None)
    if first is not None and first.op_type == "DequantizeLinear" and stored.is_integer:
        zero = first.inputs[2] if len(first.inputs) > 2 else None
        return stored.scaled([first.inputs[1]], zero, integer(first, "axis", 1))
    return stored


def _shape_behind(shape: tuple[int, ...], path: Sequence[Node]) -> tuple[int, ...] | None:
    """The shape of a tensor of this shape after these nodes; None where a node does not say."""
    for node in path:
        if node.op_type in SAME_NUMBERS:
            continue
        if node.op_type != "Transpose":
            recorded = node.outputs[0].shape
            if recorded is None or not all(isinstance(d, int) for d in recorded):
                return None
            shape = tuple(int(d) for d in recorded.numpy())
            continue
        order = integers(node, "perm") or list(range(len(shape)))[::-1]
        shape = tuple(shape[i] for i in order)
    return shape


def is_computed_from_constants(value: Value | None) -> bool:
    """Whether the tensor is the same in every run."""
    seen, stack = set[int](), [value]
    while stack:
        one = stack.pop()
        if one is None or one.const_value is not None or id(one) in seen:
            continue
        seen.add(id(one))
        node = one.producer()
        if node is None or node.op_type in RANDOM:
            return False
        stack.extend(node.inputs)
    return value is not None
