"""Operators that pick entries by number, or put them back. What was picked twice gets both cotangents."""

import numpy as np
import onnx_ir

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("Gather", since=(13,))
def gather(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    data, indices = step.inputs
    rank = step.rank(data)
    axis = step.integer("axis", 0) % rank
    size = step.dims(data)[axis]
    known = step.known.get(str(indices.name)) if indices.const_value is None else step.array(1)
    if known is not None and known.size == 1 and size is not None:
        at = int(known.reshape(-1)[0]) % size
        whole = op.unsqueeze(dy, [axis]) if known.ndim == 0 else dy
        whole = op.Squeeze(whole, op.integers(range(axis + 1, axis + known.ndim))) if known.ndim > 1 else whole
        return op.pad(whole, rank, {axis: (at, size - at - 1)})
    # The axis in front, where ScatterND counts.
    width = step.rank(indices)
    front = [axis, *(i for i in range(rank) if i != axis)]
    given = op.transpose(dy, [*range(axis, axis + width), *range(axis), *range(axis + width, width + rank - 1)])
    empty = op.zeros_like(op.transpose(data, front))
    # Gather takes int32 too, ScatterND does not.
    places = op.Cast(op.unsqueeze(indices, [-1]), to=int(onnx_ir.DataType.INT64))
    filled = op.ScatterND(empty, places, given, reduction="add")
    return op.transpose(filled, [int(i) for i in np.argsort(front)])


@gradient("GatherElements", since=(13,))
def gather_elements(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    return op.ScatterElements(op.zeros_like(step.x), step.inputs[1], dy, axis=step.integer("axis", 0), reduction="add")


@gradient("GatherND", since=(13,))
def gather_nd(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    batch = step.integer("batch_dims", 0)
    indices = step.inputs[1]
    if batch > 1:
        raise step.refusal("has more than one batch axis")
    if batch:
        # The picture's own number becomes the first index.
        rank = step.rank(indices)
        count = op.Gather(op.Shape(indices), op.integers([0]), axis=0)
        row = op.Range(op.integers(0), op.Squeeze(count, op.integers([0])), op.integers(1))
        column = op.reshape(row, [-1, *[1] * (rank - 1)])
        target = op.Concat(op.slice(op.Shape(indices), {0: (0, rank - 1)}), op.integers([1]), axis=0)
        indices = op.Concat(op.Expand(column, target), indices, axis=-1)
    return op.ScatterND(op.zeros_like(step.x), indices, dy, reduction="add")


@gradient("ScatterND", since=(18,))
def scatter_nd(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0, 2)
    indices, updates = step.inputs[1:]
    reduction = step.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise step.refusal(f"combines entries by {reduction}")
    data = op.ScatterND(dy, indices, op.zeros_like(updates)) if reduction == "none" else dy
    return data, None, op.GatherND(dy, indices)


@gradient("ScatterElements", since=(18,))
def scatter_elements(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0, 2)
    indices, updates = step.inputs[1:]
    axis, reduction = step.integer("axis", 0), step.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise step.refusal(f"combines entries by {reduction}")
    data = op.ScatterElements(dy, indices, op.zeros_like(updates), axis=axis) if reduction == "none" else dy
    return data, None, op.GatherElements(dy, indices, axis=axis)


@gradient("TopK", since=(11, 24))
def top_k(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    places = step.further_output(1)
    return op.ScatterElements(op.zeros_like(step.x), places, dy, axis=step.integer("axis", -1))
