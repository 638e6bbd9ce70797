"""Batch rules for operators that move entries: reshaping, transposing, repeating, joining, cutting, padding.

Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile, Concat, QLinearConcat, Split, Slice, Pad, DepthToSpace,
SpaceToDepth, Col2Im, Trilu; and Shape, Size, which become constants.
"""

import math

import numpy as np

from onnxcam.surgeon.vmap.pointwise import off_axis
from onnxcam.surgeon.vmap.registry import rule
from onnxcam.surgeon.vmap.task import SHARED, STACKED, Operand, Results, Task


@rule("Shape")
def shape(task: Task) -> Results:
    """A constant: the shape at the original batch size, so whatever is computed from it stays as in the original."""
    sizes = _measured(task)
    start, end = task.integer("start", 0), task.integer("end", len(sizes))
    return [(task.b.constant(sizes[start:end], np.int64), SHARED)]


@rule("Size")
def size(task: Task) -> Results:
    return [(task.b.constant(math.prod(_measured(task)), np.int64), SHARED)]


def _measured(task: Task) -> list[int]:
    """The shape of x in the original graph."""
    x = task.x
    return [d * task.original_batch if i == x.batch else d for i, d in enumerate(x.shape)]


@rule("Transpose")
def transpose(task: Task) -> Results:
    x = task.x
    order = task.integers("perm") or list(range(x.rank))[::-1]
    if x.batch == STACKED:
        return task.reuse(STACKED, perm=[0, *(i + 1 for i in order)])
    return task.reuse(order.index(x.batch))


@rule("Flatten")
def flatten(task: Task) -> Results:
    axis = task.integer("axis", 1)
    if task.x.batch == 0 and axis % task.x.rank:
        return task.reuse(0)
    return reshape(task)


@rule("Reshape")
def reshape(task: Task) -> Results:
    """To the output's measured shape, with -1 for the axis that holds the batch."""
    x, target = task.x, list(task.shape)
    value, batch = x.value, STACKED
    if x.batch >= 0:
        batch = _batch_after_reshape(task, x, target)
        value = x.value if batch >= 0 else task.stacked(x).value
    sizes = [-1, *target] if batch == STACKED else [*target[:batch], -1, *target[batch + 1 :]]
    if task.node.op_type != "Reshape":
        return [(task.reshape(value, sizes), batch)]
    if 0 in sizes:
        raise task.refusal("handles a tensor without entries")
    new = Operand(task.b.constant(sizes, np.int64), (len(sizes),), SHARED)
    return task.reuse(batch, {0: Operand(value, x.shape, x.batch), 1: new})


def _batch_after_reshape(task: Task, x: Operand, target: list[int]) -> int:
    """The axis of the target that begins where x's batch axis begins in memory order, STACKED if there is none."""
    ahead, size = math.prod(x.shape[: x.batch]), x.shape[x.batch] * task.original_batch
    axes = [i for i, d in enumerate(target) if math.prod(target[:i]) == ahead and d % task.original_batch == 0]
    if x.batch in axes and target[x.batch] == size:
        return x.batch
    return axes[0] if axes else STACKED


@rule("Squeeze")
def squeeze(task: Task) -> Results:
    x = task.x
    stated = task.integers("axes", 1)
    # Without axes the original drops every axis of size 1, the batch axis among them.
    axes = [i for i, d in enumerate(_measured(task)) if d == 1] if stated is None else [a % x.rank for a in stated]
    kept = [a for a in axes if a != x.batch]
    if x.batch >= 0 and len(kept) < len(axes) and x.shape[x.batch] * task.original_batch != 1:
        raise task.refusal("drops the batch")
    if kept:
        task.set_integers("axes", 1, [a + (x.batch == STACKED) for a in kept], since=13)
        value = task.reuse(x.batch)[0][0]
    else:
        value = x.value
    batch = x.batch if x.batch == STACKED else x.batch - sum(a < x.batch for a in kept)
    if len(kept) < len(axes):
        return [(task.move_to_front(value, batch, x.rank - len(kept)), STACKED)]
    return [(value, batch)]


@rule("Unsqueeze")
def unsqueeze(task: Task) -> Results:
    x, rank = task.x, len(task.shape)
    axes = sorted(a % rank for a in task.integers("axes", 1) or [])
    if x.batch == STACKED:
        # A new axis in front becomes the batch axis.
        kept, batch = (axes[1:], 0) if 0 in axes else ([a + 1 for a in axes], STACKED)
        if not kept:
            return [(x.value, batch)]
        task.set_integers("axes", 1, kept, since=13)
        return task.reuse(batch)
    return task.reuse([i for i in range(rank) if i not in axes][x.batch])


@rule("Expand")
def expand(task: Task) -> Results:
    x, target = task.x, list(task.shape)
    batch = len(target) - x.rank + x.batch
    if x.batch >= 0 and task.has_same_size(x.batch, batch):
        target[batch] = 1  # 1 keeps the size, whatever N is
        return _expand(task, x, target, batch)
    x = task.stacked(x)
    missing = len(target) - x.rank
    value = task.b.unsqueeze(x.value, list(range(1, 1 + missing))) if missing else x.value
    return _expand(task, Operand(value, x.shape, STACKED), [1, *target], STACKED)


def _expand(task: Task, x: Operand, target: list[int], batch: int) -> Results:
    return task.reuse(batch, {0: x, 1: Operand(task.b.constant(target, np.int64), (len(target),), SHARED)})


@rule("Tile")
def tile(task: Task) -> Results:
    x = task.x
    times = [out // size for out, size in zip(task.shape, _measured(task), strict=True)]
    if x.batch >= 0 and times[x.batch] != 1:
        x = task.stacked(x)
    repeats = [1, *times] if x.batch == STACKED else times
    return task.reuse(x.batch, {0: x, 1: Operand(task.b.constant(repeats, np.int64), (len(repeats),), SHARED)})


@rule("Concat")
def concat(task: Task) -> Results:
    return _concat(task, list(range(len(task.inputs))))


@rule("QLinearConcat", foreign=True)
def quantised_concat(task: Task) -> Results:
    return _concat(task, list(range(2, len(task.inputs), 3)))


def _concat(task: Task, positions: list[int]) -> Results:
    if len(positions) == 1:
        x = task.operand(positions[0])
        return task.reuse(x.batch, axis=task.integer("axis", 0) % x.rank + (x.batch == STACKED))
    axis = task.integer("axis", 0) % len(task.shape)
    operands, batch = task.at_common_axis([task.operand(i) for i in positions], axis)
    return task.reuse(batch, dict(zip(positions, operands, strict=True)), axis=axis + (batch == STACKED))


@rule("Split")
def split(task: Task) -> Results:
    x, axis = off_axis(task, task.x, task.integer("axis", 0))
    return task.reuse(x.batch, {0: x}, axis=axis)


@rule("Slice")
def slice_(task: Task) -> Results:
    x = task.x
    count = len(task.integers("starts", 1) or []) if task.opset < 10 else task.operand(1).shape[0]
    axes = [a % x.rank for a in task.integers("axes", 3) or range(count)]
    if x.batch >= 0 and x.batch not in axes:
        return task.reuse(x.batch)
    if x.batch >= 0:
        steps = (task.integers("steps", 4) if task.opset >= 10 else None) or [1] * count
        at = axes.index(x.batch)
        if task.has_same_size(x.batch) and (steps[at] == 1 or x.shape[x.batch] * task.original_batch == 1):
            return _slice_elsewhere(task, at, axes, steps)
        x = task.stacked(x)
    task.set_integers("axes", 3, [a + 1 for a in axes], since=10)
    return task.reuse(STACKED, {0: x})


def _slice_elsewhere(task: Task, at: int, axes: list[int], steps: list[int]) -> Results:
    """Slices the other axes only: the batch axis is kept entire, and its bounds are those of one sample."""
    if len(axes) == 1:
        return [(task.x.value, task.x.batch)]
    starts, ends = task.integers("starts", 1) or [], task.integers("ends", 2) or []
    for position, (name, numbers) in enumerate((("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))):
        if name != "steps" or task.opset >= 10:
            task.set_integers(name, position + 1, [n for i, n in enumerate(numbers) if i != at], since=10)
    return task.reuse(task.x.batch)


@rule("Pad")
def pad(task: Task) -> Results:
    x = task.x
    pads = task.integers("pads", 1)
    axes = task.integers("axes", 3) if task.opset >= 18 else None
    if pads is None:
        raise task.refusal("takes pads that are computed at run time")
    padded = [a % x.rank for a in axes] if axes is not None else list(range(x.rank))
    before, after = ([0] * x.rank for _ in range(2))
    for i, axis in enumerate(padded):
        before[axis], after[axis] = pads[i], pads[len(padded) + i]
    if x.batch >= 0 and (before[x.batch] or after[x.batch]):
        x = task.stacked(x)
    if x.batch == STACKED:
        before, after = [0, *before], [0, *after]
    if axes is not None:
        task.set_integers("axes", 3, list(range(len(before))), since=18)
    task.set_integers("pads", 1, before + after, since=11)
    return task.reuse(x.batch, {0: x})


@rule("Col2Im DepthToSpace SpaceToDepth")
def blocks(task: Task) -> Results:
    return task.reuse(0, {0: task.batch_at(task.x, 0)})


@rule("Trilu")
def triangle(task: Task) -> Results:
    x = task.x
    return task.reuse(x.batch if x.batch < x.rank - 2 else STACKED, {0: x if x.batch < x.rank - 2 else task.stacked(x)})
