"""Operators that move entries without changing them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.autodiff.rules.elementwise import TYPES
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.autodiff.rules.sampling import matrix_of_pad, resize_matrix
from onnxcam.surgeon.ir import END, Value


@gradient("Flatten Reshape Squeeze Unsqueeze", since=(13, 14, *TYPES))
def reshape(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    shape = step.dims(step.x)
    if shape.count(None) <= 1 and 0 not in shape:
        return op.reshape(dy, [-1 if d is None else d for d in shape])
    return op.Reshape(dy, op.Shape(step.x))


@gradient("Transpose", since=(13, *TYPES))
def transpose(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    rank = step.rank(step.x)
    perm = step.integers("perm") or list(range(rank))[::-1]
    return op.transpose(dy, [int(i) for i in np.argsort(perm)])


@gradient("Expand", since=(13,))
def expand(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    return op.sum_to(dy, step.dims(step.y), step.dims(step.x))


@gradient("Tile", since=(13,))
def tile(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Copies lie behind each other: one axis more for them, and a sum over it."""
    step.only(0)
    repeats, shape = step.integers("repeats", 1) or [], step.dims(step.x)
    for axis in reversed(range(len(shape))):
        if repeats[axis] == 1:
            continue
        (size,) = step.static(step.x, [axis])
        behind = [step.dims(step.y)[i] if i < axis else shape[i] for i in range(len(shape)) if i != axis]
        if behind.count(None) > 1:
            raise step.refusal("repeats a tensor with several axes of unknown size")
        target = [-1 if d is None else d for d in (*step.dims(step.y)[:axis], repeats[axis], size, *shape[axis + 1 :])]
        dy = op.sum(op.reshape(dy, target), [axis], keepdims=False)
    return dy


@gradient("Concat", since=(13,))
def concat(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    rank = step.rank(step.y)
    axis = step.integer("axis", 0) % rank
    if len(step.inputs) == 1:
        return dy
    if None in [step.dims(x)[axis] for x in step.inputs]:
        sizes = [op.slice(op.Shape(x), {0: (axis, axis + 1)}) for x in step.inputs]
        return op.several("Split", dy, op.Concat(*sizes, axis=0), outputs=len(sizes), axis=axis)
    found: list[Value | None] = []
    start = 0
    for i, x in enumerate(step.inputs):
        (size,) = step.static(x, [axis])
        found.append(op.slice(dy, {axis: (start, start + size)}) if i in step.active and size else None)
        start += size
    return found


@gradient("Split", since=(18,))
def split(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    axis = step.integer("axis", 0) % step.rank(step.x)
    parts = [
        given if given is not None else op.zeros_like(value)
        for value, given in zip(step.node.outputs, step.cotangents, strict=True)
    ]
    return op.Concat(*parts, axis=axis)


@gradient("Slice", since=(13,))
def slice_(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Zeros where nothing was taken."""
    step.only(0)
    shape = step.dims(step.x)
    rank = len(shape)
    starts, ends = step.integers("starts", 1) or [], step.integers("ends", 2) or []
    axes, steps = step.integers("axes", 3) or list(range(len(starts))), step.integers("steps", 4) or [1] * len(starts)
    for axis, start, end, stride in reversed(list(zip(axes, starts, ends, steps, strict=True))):
        axis %= rank
        size = shape[axis]
        if size is None:
            if start == 0 and end >= END and stride == 1:
                continue
            (size,) = step.static(step.x, [axis])
        taken = range(size)[slice(start, None if end <= -size - 1 and stride < 0 else end, stride)]
        dy = _put_back(op, dy, rank, axis, taken, size)
    return dy


def _put_back(op: Ops, x: Value, rank: int, axis: int, taken: range, size: int) -> Value:
    """x, whose entries along the axis were at `taken` of `size`, with zeros at the others."""
    if taken.step < 0:
        x = op.slice(x, {axis: (-1, -END)}, step=-1)
        taken = taken[::-1]
    count, stride = len(taken), taken.step
    if stride > 1 and count > 1:
        wide = op.pad(op.unsqueeze(x, [axis + 1]), rank + 1, {axis + 1: (0, stride - 1)})
        # 0 keeps the axes before; those behind have moved by one, so their sizes are read from x.
        shape = op.Shape(x)
        before, behind = op.slice(shape, {0: (0, axis)}), op.slice(shape, {0: (axis + 1, END)})
        x = op.Reshape(wide, op.Concat(before, op.integers([count * stride]), behind, axis=0))
        count *= stride
    return op.pad(x, rank, {axis: (taken.start, size - taken.start - count)})


@gradient("Pad", since=(18, *TYPES))
def pad(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    rank, mode = step.rank(step.x), step.text("mode", "constant")
    pads = step.integers("pads", 1) or []
    axes = [a % rank for a in step.integers("axes", 3) or range(rank)]
    by_axis = {a: (pads[i], pads[len(axes) + i]) for i, a in enumerate(axes) if pads[i] or pads[len(axes) + i]}
    if mode == "constant":
        return op.pad(dy, rank, {a: (-p, -q) for a, (p, q) in by_axis.items()})
    for axis, (before, after) in by_axis.items():
        (size,) = step.static(step.x, [axis])
        dy = along(op, dy, rank, axis, matrix_of_pad(size, before, after, mode).T)
    return dy


def along(op: Ops, x: Value, rank: int, axis: int, matrix: npt.NDArray[np.float64]) -> Value:
    """The matrix (to, from) applied to an axis of x."""
    if axis == rank - 1:
        return op.MatMul(x, op.number(matrix.T))
    if axis == rank - 2:
        return op.MatMul(op.number(matrix), x)
    last = [*(i for i in range(rank) if i != axis), axis]
    moved = op.MatMul(op.transpose(x, last), op.number(matrix.T))
    return op.transpose(moved, [int(i) for i in np.argsort(last)])


@gradient("Resize", since=(18, 19))
def resize(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Resizing is linear along each axis, so its gradient is the transposed matrix of each."""
    step.only(0)
    for axis, scale in _scales(step).items():
        (old,), (new,) = step.static(step.x, [axis]), step.static(step.y, [axis])
        whole = _whole_factor(step, old, new, scale)
        if whole:
            dy = _summed(op, step, dy, axis, old, whole)
            continue
        dy = along(op, dy, step.rank(step.x), axis, resize_matrix(step, old, new, scale).T)
    return dy


def _scales(step: BackwardNode) -> dict[int, float]:
    """Of each axis that is resampled: as stated, which need not be the quotient of the sizes, or as the sizes say."""
    shape, result = step.dims(step.x), step.dims(step.y)
    if shape == result:
        return {}  # onnxruntime copies then, whatever the scales
    axes = [a % len(shape) for a in step.integers("axes") or range(len(shape))]
    scales = step.array(2)
    if scales is not None and scales.size:
        return {a: float(s) for a, s in zip(axes, scales.reshape(-1), strict=True) if s != 1}
    policy = step.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        changed = [a for a in axes if shape[a] != result[a]]
        return dict(zip(changed, _quotients(step.static(step.y, changed), step.static(step.x, changed)), strict=True))
    asked = _quotients(step.integers("sizes", 3) or [], step.static(step.x, axes))
    scale = min(asked) if policy == "not_larger" else max(asked)
    return dict.fromkeys(axes, scale) if scale != 1 else {}


def _quotients(sizes: Sequence[int], by: Sequence[int]) -> list[float]:
    return [a / b for a, b in zip(sizes, by, strict=True)]


def _whole_factor(step: BackwardNode, old: int, new: int, scale: float) -> int:
    """The factor of a plain repetition of entries; 0 for any other resizing."""
    plain = step.text("mode", "nearest") == "nearest" and new % old == 0 and scale == new // old
    rounding = step.text("nearest_mode", "round_prefer_floor")
    where = step.text("coordinate_transformation_mode", "half_pixel")
    repeats = rounding == "floor" if where == "asymmetric" else where == "half_pixel" and rounding.startswith("round")
    return new // old if plain and repeats else 0


def _summed(op: Ops, step: BackwardNode, x: Value, axis: int, size: int, factor: int) -> Value:
    """Sums over `factor` neighbours along the axis."""
    wide = op.Shape(x)
    parts = [op.slice(wide, {0: (0, axis)}), op.integers([size, factor]), op.slice(wide, {0: (axis + 1, END)})]
    return op.sum(op.Reshape(x, op.Concat(*parts, axis=0)), [axis + 1], keepdims=False)


@gradient("DepthToSpace SpaceToDepth", since=(13, 28))
def depth_to_space(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """The way back is the other one of the two."""
    block, channels = step.integer("blocksize", 1), step.static(step.x, [1])[0]
    mode = step.text("mode", "DCR")
    if step.node.op_type == "SpaceToDepth":
        return op.DepthToSpace(dy, blocksize=block, mode=mode)
    if mode == "DCR":
        return op.SpaceToDepth(dy, blocksize=block)
    height, width = step.static(step.x, [2, 3])
    split = op.reshape(dy, [-1, channels // block**2, height, block, width, block])
    return op.reshape(op.Transpose(split, perm=[0, 1, 3, 5, 2, 4]), [-1, channels, height, width])


@gradient("Trilu", since=(14,))
def triangle(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    extra = [x for x in [step.optional(1)] if x is not None]
    return op.Trilu(dy, *extra, upper=step.integer("upper", 1))
