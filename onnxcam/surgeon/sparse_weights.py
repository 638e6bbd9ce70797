"""Makes sparse weights dense: a graph's sparse_initializer, and the sparse_value of a Constant.

onnxruntime runs them, but the passes and the analysis know dense tensors only. What they would take is checked first,
since a few bytes can declare a tensor of any size.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxcam.errors import ModelError
from onnxcam.surgeon.validation import all_parts, check_tensors, sparse_tensors

MOST = 2**28
"""Bytes of all sparse weights of a model once they are dense."""


@dataclass
class _Budget:
    """left: bytes that may still become dense."""

    left: int


def with_dense_weights(proto: onnx.ModelProto, name: str, most: int = MOST) -> onnx.ModelProto:
    """The model with dense tensors in place of sparse ones, a copy if it has any. most: bytes of all of them.

    Raises ModelError for indices that do not fit, and where more than `most` bytes would be needed.
    """
    if not any(map(sparse_tensors, all_parts(proto))):
        return proto
    dense, budget = onnx.ModelProto(), _Budget(most)
    dense.CopyFrom(proto)
    for part in list(all_parts(dense)):
        if isinstance(part, onnx.GraphProto):
            part.initializer.extend([_dense(sparse, name, budget) for sparse in part.sparse_initializer])
            del part.sparse_initializer[:]
        elif part.type == onnx.AttributeProto.SPARSE_TENSOR and part.name == "sparse_value":
            tensor = _dense(part.sparse_tensor, name, budget)
            part.Clear()
            part.name, part.type = "value", onnx.AttributeProto.TENSOR
            part.t.CopyFrom(tensor)
        elif sparse_tensors(part):
            raise ModelError(f"{name}: the attribute {part.name!r} is sparse; only the value of a Constant may be")
    return dense


def _dense(sparse: onnx.SparseTensorProto, name: str, budget: _Budget) -> onnx.TensorProto:
    """The dense tensor, under the name of the values."""
    values, label, dims = sparse.values, sparse.values.name, list(sparse.dims)
    damaged = f"{name}: the sparse weights {label!r} are damaged"
    check_tensors((values, sparse.indices), name)
    if any(d < 0 for d in dims) or not dims or len(values.dims) != 1:
        raise ModelError(f"{damaged}: shape {dims[:8]} with values of shape {list(values.dims)[:8]}")
    if sparse.indices.data_type != onnx.TensorProto.INT64:
        raise ModelError(f"{damaged}: their indices are no int64 numbers")
    try:
        numbers, indices = numpy_helper.to_array(values), numpy_helper.to_array(sparse.indices)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{damaged} ({error})") from None
    if numbers.dtype.kind not in "fiub" or numbers.dtype.name in ("int2", "int4", "uint2", "uint4"):
        raise ModelError(f"{name}: the sparse weights {label!r} are of {numbers.dtype}; export them as a dense tensor")
    count = math.prod(dims)
    # numpy makes no array whose sides other than 0 are too large together, though it would hold nothing.
    budget.left -= math.prod(side or 1 for side in dims) * numbers.dtype.itemsize
    if budget.left < 0:
        raise ModelError(
            f"{name}: the sparse weights {label!r} of shape {dims[:8]} take too much memory once they are dense; "
            f"export a smaller model"
        )
    places = _places(indices, dims, len(numbers))
    if places is None:
        raise ModelError(f"{damaged}: their indices do not lie in ascending order in the shape {dims[:8]}")
    dense = np.zeros(count, numbers.dtype)
    dense[places] = numbers
    return numpy_helper.from_array(dense.reshape(dims), label)


def _places(indices: npt.NDArray[np.int64], dims: list[int], count: int) -> npt.NDArray[np.int64] | None:
    """Each value's place in the flattened tensor; None unless they ascend within it, as ONNX asks."""
    if indices.shape == (count, len(dims)) and indices.ndim == 2:
        if (indices < 0).any() or (indices >= np.array(dims)).any():
            return None
        indices = indices @ np.array([math.prod(dims[axis + 1 :]) for axis in range(len(dims))], np.int64)
    elif indices.shape != (count,):
        return None
    inside = not count or (indices[0] >= 0 and indices[-1] < math.prod(dims))
    return indices if inside and bool((np.diff(indices) > 0).all()) else None
