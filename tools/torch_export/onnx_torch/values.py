"""Conversions between host arrays and tensors, and a linear map along an axis."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from onnx_torch.registry import Array, Node, Value

LARGEST_INDEX = 2**63 - 1
FLOATS = frozenset(
    getattr(TensorProto, name)
    for name in "FLOAT FLOAT16 DOUBLE BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ".split()
)
INTEGERS = {
    TensorProto.BOOL: torch.bool, TensorProto.UINT8: torch.uint8, TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16, TensorProto.UINT16: torch.int32, TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64, TensorProto.INT64: torch.int64, TensorProto.UINT64: torch.int64,
}  # fmt: skip
"""Torch computes little in unsigned types above 8 bits, so these become the next larger signed type."""


def as_tensor(array: Array, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The array as a tensor. Floating-point numbers become `dtype`; symbolic sizes stay symbolic."""
    if array.dtype == object:
        parts = [torch.scalar_tensor(v, dtype=_kind(v, dtype), device=device) for v in array.reshape(-1)]
        return torch.stack(parts).reshape(array.shape)
    if array.dtype.kind == "f":
        return torch.tensor(array, dtype=dtype, device=device)
    if array.dtype.name in ("uint16", "uint32", "uint64") or array.dtype.kind not in "biu":
        array = array.astype(np.int64)  # NumPy has no four-bit integers of its own
    return torch.tensor(array, device=device)


def _kind(number: Any, dtype: torch.dtype) -> torch.dtype:
    return dtype if isinstance(number, float | torch.SymFloat) else torch.int64


def settled(array: Array) -> Array:
    """An array of Python objects as an array of numbers, unless a size in it is symbolic."""
    symbolic = (torch.SymInt, torch.SymFloat, torch.SymBool)
    if array.dtype != object or any(isinstance(v, symbolic) for v in array.reshape(-1)):
        return array
    return np.array(array.tolist())


def host_array(sizes: Sequence[Any]) -> Array:
    """(len,) sizes on the host: integers, or objects if one is symbolic."""
    plain = all(isinstance(s, int) for s in sizes)
    array = np.empty(len(sizes), np.int64 if plain else object)
    array[:] = sizes
    return array


def integers(node: Node, values: Value | None, attribute: str | None = None) -> list[Any] | None:
    """The integers of an input, or of the attribute that it was in old opsets. None if both are absent."""
    if values is None:
        value = node.get(attribute) if attribute else None
        return value if value is None or isinstance(value, list) else [value]
    if isinstance(values, Tensor):
        raise node.unknown("shapes that depend on data")
    return list(values.reshape(-1).tolist()) if values.dtype != object else list(values.reshape(-1))


def folded(function: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """A function of two operands applied to many: f(f(a, b), c)."""
    total = operands[0]
    for operand in operands[1:]:
        total = function(total, operand)
    return total


def along(x: Tensor, axis: int, matrix: Array) -> Tensor:
    """x with a matrix (target, source) applied along one axis."""
    weights = torch.tensor(matrix, dtype=x.dtype, device=x.device)
    return (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
