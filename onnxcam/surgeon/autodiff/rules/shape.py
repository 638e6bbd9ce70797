"""Gradient rules for operators that move, repeat, cut, join or resample entries.

Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile, Concat, Split, Slice, Pad, Resize, DepthToSpace,
SpaceToDepth, Trilu.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.autodiff.rules.elementwise import TYPES
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.autodiff.rules.sampling import pad_matrix, resize_matrix
from onnxcam.surgeon.ir import END, Value


@gradient("Flatten Reshape Squeeze Unsqueeze", since=(13, 14, *TYPES))
def reshape(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    shape = node.dims(node.x)
    if shape.count(None) <= 1 and 0 not in shape and not node.is_counted(node.x):
        return op.reshape(dy, [-1 if d is None else d for d in shape])
    return op.Reshape(dy, op.Shape(node.x))


@gradient("Transpose", since=(13, *TYPES))
def transpose(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    rank = node.rank(node.x)
    perm = node.integers("perm") or list(range(rank))[::-1]
    return op.transpose(dy, [int(i) for i in np.argsort(perm)])


@gradient("Expand", since=(13,))
def expand(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    return op.sum_to(dy, node.dims(node.y), node.dims(node.x))


@gradient("Tile", since=(13,))
def tile(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The copies along an axis are split into a new axis, which is summed."""
    node.only(0)
    repeats, shape = node.integers("repeats", 1) or [], node.dims(node.x)
    for axis in reversed(range(len(shape))):
        if repeats[axis] == 1:
            continue
        (size,) = node.static(node.x, [axis])
        others = [node.dims(node.y)[i] if i < axis else shape[i] for i in range(len(shape)) if i != axis]
        if others.count(None) > 1:
            raise node.refusal("repeats a tensor with several axes of unknown size")
        target = [-1 if d is None else d for d in (*node.dims(node.y)[:axis], repeats[axis], size, *shape[axis + 1 :])]
        dy = op.sum(op.reshape(dy, target), [axis], keepdims=False)
    return dy


@gradient("Concat", since=(13,))
def concat(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    rank = node.rank(node.y)
    axis = node.integer("axis", 0) % rank
    if len(node.inputs) == 1:
        return dy
    if None in [node.dims(x)[axis] for x in node.inputs] or any(map(node.is_counted, node.inputs)):
        sizes = [op.slice(op.Shape(x), {0: (axis, axis + 1)}) for x in node.inputs]
        return op.several("Split", dy, op.Concat(*sizes, axis=0), outputs=len(sizes), axis=axis)
    parts: list[Value | None] = []
    start = 0
    for i, x in enumerate(node.inputs):
        (size,) = node.static(x, [axis])
        parts.append(op.slice(dy, {axis: (start, start + size)}) if i in node.active and size else None)
        start += size
    return parts


@gradient("Split", since=(18,))
def split(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    axis = node.integer("axis", 0) % node.rank(node.x)
    parts = [
        cotangent if cotangent is not None else op.zeros_like(value)
        for value, cotangent in zip(node.forward.outputs, node.cotangents, strict=True)
    ]
    return op.Concat(*parts, axis=axis)


@gradient("Slice", since=(13,))
def slice_(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """0 for the entries outside the slice."""
    node.only(0)
    shape = node.dims(node.x)
    rank = len(shape)
    starts, ends = node.integers("starts", 1) or [], node.integers("ends", 2) or []
    axes, steps = node.integers("axes", 3) or list(range(len(starts))), node.integers("steps", 4) or [1] * len(starts)
    for axis, start, end, stride in reversed(list(zip(axes, starts, ends, steps, strict=True))):
        axis %= rank
        size = shape[axis]
        if size is None:
            if start == 0 and end >= END and stride == 1:
                continue
            (size,) = node.static(node.x, [axis])
        taken = range(size)[slice(start, None if end <= -size - 1 and stride < 0 else end, stride)]
        dy = _put_back(op, dy, rank, axis, taken, size)
    return dy


def _put_back(op: Ops, x: Value, rank: int, axis: int, taken: range, size: int) -> Value:
    """An axis of length `size` with x's entries at the positions `taken` and zeros elsewhere."""
    if taken.step < 0:
        x = op.slice(x, {axis: (-1, -END)}, step=-1)
        taken = taken[::-1]
    count, stride = len(taken), taken.step
    if stride > 1 and count > 1:
        wide = op.pad(op.unsqueeze(x, [axis + 1]), rank + 1, {axis + 1: (0, stride - 1)})
        # The sizes of the other axes are read from x.
        shape = op.Shape(x)
        before, behind = op.slice(shape, {0: (0, axis)}), op.slice(shape, {0: (axis + 1, END)})
        x = op.Reshape(wide, op.Concat(before, op.integers([count * stride]), behind, axis=0))
        count *= stride
    return op.pad(x, rank, {axis: (taken.start, size - taken.start - count)})


@gradient("Pad", since=(18, *TYPES))
def pad(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    rank, mode = node.rank(node.x), node.text("mode", "constant")
    pads = node.integers("pads", 1) or []
    axes = [a % rank for a in node.integers("axes", 3) or range(rank)]
    by_axis = {a: (pads[i], pads[len(axes) + i]) for i, a in enumerate(axes) if pads[i] or pads[len(axes) + i]}
    if mode == "constant":
        return op.pad(dy, rank, {a: (-p, -q) for a, (p, q) in by_axis.items()})
    for axis, (before, after) in by_axis.items():
        (size,) = node.static(node.x, [axis])
        dy = apply_along(op, dy, rank, axis, pad_matrix(size, before, after, mode).T)
    return dy


def apply_along(op: Ops, x: Value, rank: int, axis: int, matrix: npt.NDArray[np.float64]) -> Value:
    """x with the matrix (to, from) applied along one axis."""
    if axis == rank - 1:
        return op.MatMul(x, op.number(matrix.T))
    if axis == rank - 2:
        return op.MatMul(op.number(matrix), x)
    last = [*(i for i in range(rank) if i != axis), axis]
    moved = op.MatMul(op.transpose(x, last), op.number(matrix.T))
    return op.transpose(moved, [int(i) for i in np.argsort(last)])


@gradient("Resize", since=(18, 19))
def resize(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Resize is linear along each axis: the transposed matrix of each axis is applied."""
    node.only(0)
    for axis, scale in _scales(node).items():
        (old,), (new,) = node.static(node.x, [axis]), node.static(node.y, [axis])
        factor = _repetition_factor(node, old, new, scale)
        if factor:
            dy = _sum_neighbours(op, dy, axis, old, factor)
            continue
        dy = apply_along(op, dy, node.rank(node.x), axis, resize_matrix(node, old, new, scale).T)
    return dy


def _scales(node: BackwardNode) -> dict[int, float]:
    """Scale of each resampled axis: the scale that the model states, else the quotient of the sizes."""
    shape, result = node.dims(node.x), node.dims(node.y)
    if shape == result:
        return {}  # onnxruntime copies then, whatever the scales are
    axes = [a % len(shape) for a in node.integers("axes") or range(len(shape))]
    scales = node.array(2)
    if scales is not None and scales.size:
        return {a: float(s) for a, s in zip(axes, scales.reshape(-1), strict=True) if s != 1}
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        changed = [a for a in axes if shape[a] != result[a]]
        return dict(zip(changed, _quotients(node.static(node.y, changed), node.static(node.x, changed)), strict=True))
    quotients = _quotients(node.integers("sizes", 3) or [], node.static(node.x, axes))
    scale = min(quotients) if policy == "not_larger" else max(quotients)
    return dict.fromkeys(axes, scale) if scale != 1 else {}


def _quotients(new: Sequence[int], old: Sequence[int]) -> list[float]:
    return [a / b for a, b in zip(new, old, strict=True)]


def _repetition_factor(node: BackwardNode, old: int, new: int, scale: float) -> int:
    """How often the resizing repeats each entry, 0 if it does anything else."""
    plain = node.text("mode", "nearest") == "nearest" and new % old == 0 and scale == new // old
    rounding = node.text("nearest_mode", "round_prefer_floor")
    where = node.text("coordinate_transformation_mode", "half_pixel")
    repeats = rounding == "floor" if where == "asymmetric" else where == "half_pixel" and rounding.startswith("round")
    return new // old if plain and repeats else 0


def _sum_neighbours(op: Ops, x: Value, axis: int, size: int, factor: int) -> Value:
    """Sums each run of `factor` entries along the axis, which then has length `size`."""
    shape = op.Shape(x)
    parts = [op.slice(shape, {0: (0, axis)}), op.integers([size, factor]), op.slice(shape, {0: (axis + 1, END)})]
    return op.sum(op.Reshape(x, op.Concat(*parts, axis=0)), [axis + 1], keepdims=False)


@gradient("DepthToSpace SpaceToDepth", since=(13, 28))
def depth_to_space(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Each of the two is the inverse of the other."""
    block, channels = node.integer("blocksize", 1), node.static(node.x, [1])[0]
    mode = node.text("mode", "DCR")
    if node.op_type == "SpaceToDepth":
        return op.DepthToSpace(dy, blocksize=block, mode=mode)
    if mode == "DCR":
        return op.SpaceToDepth(dy, blocksize=block)
    height, width = node.static(node.x, [2, 3])
    split = op.reshape(dy, [-1, channels // block**2, height, block, width, block])
    return op.reshape(op.Transpose(split, perm=[0, 1, 3, 5, 2, 4]), [-1, channels, height, width])


@gradient("Trilu", since=(14,))
def triangle(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    diagonal = [x for x in [node.optional(1)] if x is not None]
    return op.Trilu(dy, *diagonal, upper=node.integer("upper", 1))
