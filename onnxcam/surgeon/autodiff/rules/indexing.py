"""Gradient rules for indexing: Gather, GatherElements, GatherND, ScatterElements, ScatterND, TopK.

An entry that is read several times gets the sum of its cotangents.
"""

import numpy as np
import onnx_ir

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("Gather", since=(13,))
def gather(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    data, indices = node.inputs
    rank = node.rank(data)
    axis = node.integer("axis", 0) % rank
    size = node.dims(data)[axis]
    known = node.known.get(str(indices.name)) if indices.const_value is None else node.array(1)
    if known is not None and known.size == 1 and size is not None:
        # One constant index: zeros before and after it.
        at = int(known.reshape(-1)[0]) % size
        entry = op.unsqueeze(dy, [axis]) if known.ndim == 0 else dy
        entry = op.Squeeze(entry, op.integers(range(axis + 1, axis + known.ndim))) if known.ndim > 1 else entry
        return op.pad(entry, rank, {axis: (at, size - at - 1)})
    width = node.rank(indices)
    if (rank, width) == (2, 1):  # entries of a table, as a score's: OpenVINO's ScatterND does not add
        repeated = op.Expand(op.unsqueeze(indices, [1 - axis]), op.Shape(dy))
        return op.ScatterElements(op.zeros_like(data), repeated, dy, axis=axis, reduction="add")
    # ScatterND indexes the first axis, so the gathered axis is moved there.
    front = [axis, *(i for i in range(rank) if i != axis)]
    updates = op.transpose(dy, [*range(axis, axis + width), *range(axis), *range(axis + width, width + rank - 1)])
    zeros = op.zeros_like(op.transpose(data, front))
    # Gather accepts int32 indices, ScatterND does not.
    int64_indices = op.Cast(op.unsqueeze(indices, [-1]), to=int(onnx_ir.DataType.INT64))
    filled = op.ScatterND(zeros, int64_indices, updates, reduction="add")
    return op.transpose(filled, [int(i) for i in np.argsort(front)])


@gradient("GatherElements", since=(13,))
def gather_elements(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    return op.ScatterElements(op.zeros_like(node.x), node.inputs[1], dy, axis=node.integer("axis", 0), reduction="add")


@gradient("GatherND", since=(13,))
def gather_nd(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    batch = node.integer("batch_dims", 0)
    indices = node.inputs[1]
    if batch > 1:
        raise node.refusal("has more than one batch axis")
    if batch:
        # The sample's number becomes the first index.
        rank = node.rank(indices)
        count = op.Gather(op.Shape(indices), op.integers([0]), axis=0)
        samples = op.Range(op.integers(0), op.Squeeze(count, op.integers([0])), op.integers(1))
        column = op.reshape(samples, [-1, *[1] * (rank - 1)])
        target = op.Concat(op.slice(op.Shape(indices), {0: (0, rank - 1)}), op.integers([1]), axis=0)
        indices = op.Concat(op.Expand(column, target), indices, axis=-1)
    return op.ScatterND(op.zeros_like(node.x), indices, dy, reduction="add")


@gradient("ScatterND", since=(18,))
def scatter_nd(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0, 2)
    indices, updates = node.inputs[1:]
    reduction = node.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise node.refusal(f"combines entries by {reduction}")
    data = op.ScatterND(dy, indices, op.zeros_like(updates)) if reduction == "none" else dy
    return data, None, op.GatherND(dy, indices)


@gradient("ScatterElements", since=(18,))
def scatter_elements(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0, 2)
    indices, updates = node.inputs[1:]
    axis, reduction = node.integer("axis", 0), node.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise node.refusal(f"combines entries by {reduction}")
    data = op.ScatterElements(dy, indices, op.zeros_like(updates), axis=axis) if reduction == "none" else dy
    return data, None, op.GatherElements(dy, indices, axis=axis)


@gradient("TopK", since=(11, 24))
def top_k(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    indices = node.extra_output(1)
    return op.ScatterElements(op.zeros_like(node.x), indices, dy, axis=node.integer("axis", -1))
