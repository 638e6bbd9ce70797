"""Operators of shape arithmetic, computed on the host as NumPy arrays."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from onnx_torch.registry import Array, Node, Value, on_host, operator
from onnx_torch.shapes import slice_bounds, split_sizes
from onnx_torch.values import FLOATS, LARGEST_INDEX, folded, host_array, integers

ON_NUMPY: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs, "Add": np.add, "And": np.logical_and, "Ceil": np.ceil, "Equal": np.equal, "Floor": np.floor,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal,
    "Max": np.maximum, "Min": np.minimum, "Mul": np.multiply, "Neg": np.negative, "Not": np.logical_not,
    "Or": np.logical_or, "Pow": np.power, "Reciprocal": np.reciprocal, "Sqrt": np.sqrt, "Sub": np.subtract,
}  # fmt: skip


@on_host(*ON_NUMPY)
def host_elementwise(node: Node, *operands: Array) -> Array:
    function = ON_NUMPY[node.op_type]
    return np.asarray(function(*operands) if len(operands) == 1 else folded(function, operands))


@on_host("Where")
def host_where(node: Node, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


@on_host("Div")
def host_div(node: Node, a: Array, b: Array) -> Array:
    """Integers are divided towards zero. A symbolic size is never negative, so // is right for it."""
    if "f" in (a.dtype.kind, b.dtype.kind):
        return np.asarray(a / b)
    if object in (a.dtype, b.dtype):
        return np.asarray(a // b)
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)


@on_host("Mod")
def host_mod(node: Node, a: Array, b: Array) -> Array:
    return np.asarray(np.fmod(a, b) if node.get("fmod", 0) else a % b)


@on_host("Identity")
def host_identity(node: Node, x: Array) -> Array:
    return x


@on_host("Cast")
def host_cast(node: Node, x: Array) -> Array:
    to = node.get("to")
    if x.dtype == object:
        change = torch.sym_float if to in FLOATS else torch.sym_int
        changed = np.empty(x.shape, object)
        changed.reshape(-1)[:] = [change(v) for v in x.reshape(-1)]
        return changed
    if to in FLOATS:
        return x.astype(np.float64)
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(to))


@on_host("Gather")
def host_gather(node: Node, x: Array, indices: Array) -> Array:
    return np.asarray(np.take(x, indices.astype(np.int64), node.get("axis", 0)))


@on_host("Concat")
def host_concat(node: Node, *parts: Array) -> Array:
    return np.concatenate(parts, node.get("axis"))


@on_host("Reshape")
def host_reshape(node: Node, x: Array, shape: Array) -> Any:
    if shape.dtype == object:
        return NotImplemented
    return x.reshape([x.shape[i] if s == 0 and not node.get("allowzero", 0) else s for i, s in enumerate(shape)])


@on_host("Unsqueeze")
def host_unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(integers(node, axes, "axes") or ()))


@on_host("Squeeze")
def host_squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    chosen = integers(node, axes, "axes")
    return np.squeeze(x, None if chosen is None else tuple(chosen))


@on_host("Transpose")
def host_transpose(node: Node, x: Array) -> Array:
    return np.transpose(x, node.get("perm"))


@on_host("Slice")
def host_slice(node: Node, x: Array, *bounds: Array | None) -> Any:
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in slice_bounds(node, bounds):
        if not all(isinstance(v, int) for v in (start, end)):
            return NotImplemented
        # The end of a slice that runs backwards to the very first lies before it.
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(index)]


@on_host("Split")
def host_split(node: Node, x: Array, split: Array | None = None) -> tuple[Array, ...]:
    axis = node.get("axis", 0)
    parts = split_sizes(node, split, x.shape[axis])
    return tuple(np.split(x, np.cumsum(parts)[:-1], axis))


@on_host("Range")
def host_range(node: Node, start: Array, limit: Array, delta: Array) -> Array | Tensor:
    numbers = [v.reshape(-1)[0] for v in (start, limit, delta)]
    if any(isinstance(v, torch.SymInt) for v in numbers):
        return torch.arange(*(int(v) if isinstance(v, np.generic) else v for v in numbers))
    return np.arange(*numbers)


@on_host("Expand")
def host_expand(node: Node, x: Array, shape: Array) -> Any:
    if shape.dtype == object:
        return NotImplemented
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))


@on_host("Tile")
def host_tile(node: Node, x: Array, repeats: Array) -> Any:
    return NotImplemented if repeats.dtype == object else np.tile(x, repeats)


@on_host("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def host_reduce(node: Node, x: Array, axes: Array | None = None) -> Any:
    chosen = integers(node, axes, "axes")
    if chosen is None and node.get("noop_with_empty_axes", 0):
        return x
    name = {"ReduceProd": "prod", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}[node.op_type]
    return getattr(np, name)(x, axis=None if not chosen else tuple(chosen), keepdims=bool(node.get("keepdims", 1)))


@on_host("NonZero")
def host_nonzero(node: Node, x: Array) -> Array:
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Shape")
def shape(node: Node, x: Tensor) -> Array:
    return host_array(list(x.shape)[node.get("start", 0) : node.get("end", LARGEST_INDEX)])


@operator("Size")
def size(node: Node, x: Tensor) -> Array:
    return host_array([math.prod(x.shape)]).reshape(())


@operator("ConstantOfShape", host=(0,))
def constant_of_shape(node: Node, sizes: Array) -> Value:
    """A vector of integers is shape arithmetic and stays on the host. Anything else is a tensor."""
    filler = node.get("value")
    number = np.zeros(1) if filler is None else numpy_helper.to_array(filler)
    dims = integers(node, sizes) or []
    if len(dims) <= 1 and number.dtype.kind in "iub" and all(isinstance(d, int) for d in dims):
        return np.full(dims, number[0], number.dtype)
    return torch.full(dims, number[0].item(), dtype=node.dtype if number.dtype.kind == "f" else torch.int64)
