"""Operators that move entries about and compute nothing: shapes, order, joining and cutting."""

import math

import numpy as np

from onnxcam.surgeon.vmap.pointwise import along
from onnxcam.surgeon.vmap.rules import rule
from onnxcam.surgeon.vmap.task import ATTRIBUTE, EXTRA, SAME, Operand, Results, Task


@rule("Shape")
def shape(task: Task) -> Results:
    """Frozen at what one picture has: whatever is computed from it then is right for one picture."""
    sizes = _measured(task)
    start, end = task.integer("start", 0), task.integer("end", len(sizes))
    return [(task.b.constant(sizes[start:end], np.int64), SAME)]


@rule("Size")
def size(task: Task) -> Results:
    return [(task.b.constant(math.prod(_measured(task)), np.int64), SAME)]


def _measured(task: Task) -> list[int]:
    x = task.x
    return [d * task.fixed if i == x.batch else d for i, d in enumerate(x.shape)]


@rule("Transpose")
def transpose(task: Task) -> Results:
    x = task.x
    order = task.integers("perm", ATTRIBUTE) or list(range(x.rank))[::-1]
    if x.batch == EXTRA:
        return task.keep(EXTRA, perm=[0, *(i + 1 for i in order)])
    return task.keep(order.index(x.batch))


@rule("Flatten")
def flatten(task: Task) -> Results:
    axis = task.integer("axis", 1)
    if task.x.batch == 0 and axis % task.x.rank:
        return task.keep(0)
    return reshape(task)


@rule("Reshape")
def reshape(task: Task) -> Results:
    """To the measured shape, with -1 for the axis that takes up the batch."""
    x, target = task.x, list(task.shape)
    value, place = x.value, EXTRA
    if x.batch >= 0:
        place = _place_after_reshape(task, x, target)
        value = x.value if place >= 0 else task.extra(x).value
    made = [-1, *target] if place == EXTRA else [*target[:place], -1, *target[place + 1 :]]
    if task.node.op_type != "Reshape":
        return [(task.reshape(value, made), place)]
    if 0 in made:
        raise task.refusal("handles a tensor without entries")
    new = Operand(task.b.constant(made, np.int64), (len(made),), SAME)
    return task.keep(place, {0: Operand(value, x.shape, x.batch), 1: new})


def _place_after_reshape(task: Task, x: Operand, target: list[int]) -> int:
    """The axis of the target that begins where the batch's axis begins; EXTRA where none does."""
    ahead, size = math.prod(x.shape[: x.batch]), x.shape[x.batch] * task.fixed
    places = [i for i, d in enumerate(target) if math.prod(target[:i]) == ahead and d % task.fixed == 0]
    if x.batch in places and target[x.batch] == size:
        return x.batch
    return places[0] if places else EXTRA


@rule("Squeeze")
def squeeze(task: Task) -> Results:
    x = task.x
    found = task.integers("axes", 1)
    # Without axes every axis of size one goes: those of the measured run, so that a batch of one stays a batch.
    axes = [i for i, d in enumerate(_measured(task)) if d == 1] if found is None else [a % x.rank for a in found]
    kept = [a for a in axes if a != x.batch]
    if x.batch >= 0 and len(kept) < len(axes) and x.shape[x.batch] * task.fixed != 1:
        raise task.refusal("drops the batch")
    if kept:
        task.put("axes", 1, [a + (x.batch == EXTRA) for a in kept], since=13)
        value = task.keep(x.batch)[0][0]
    else:
        value = x.value
    place = x.batch if x.batch == EXTRA else x.batch - sum(a < x.batch for a in kept)
    if len(kept) < len(axes):
        return [(task.front(value, place, x.rank - len(kept)), EXTRA)]
    return [(value, place)]


@rule("Unsqueeze")
def unsqueeze(task: Task) -> Results:
    x, rank = task.x, len(task.shape)
    axes = sorted(a % rank for a in task.integers("axes", 1) or [])
    if x.batch == EXTRA:
        # A new axis in front is the place for the pictures.
        kept, place = (axes[1:], 0) if 0 in axes else ([a + 1 for a in axes], EXTRA)
        if not kept:
            return [(x.value, place)]
        task.put("axes", 1, kept, since=13)
        return task.keep(place)
    return task.keep([i for i in range(rank) if i not in axes][x.batch])


@rule("Expand")
def expand(task: Task) -> Results:
    x, target = task.x, list(task.shape)
    place = len(target) - x.rank + x.batch
    if x.batch >= 0 and task.is_kept(x.batch, place):
        target[place] = 1  # as broadcasting reads it: whatever is there
        return _expand(task, x, target, place)
    x = task.extra(x)
    missing = len(target) - x.rank
    value = task.b.unsqueeze(x.value, list(range(1, 1 + missing))) if missing else x.value
    return _expand(task, Operand(value, x.shape, EXTRA), [1, *target], EXTRA)


def _expand(task: Task, x: Operand, target: list[int], place: int) -> Results:
    return task.keep(place, {0: x, 1: Operand(task.b.constant(target, np.int64), (len(target),), SAME)})


@rule("Tile")
def tile(task: Task) -> Results:
    x = task.x
    times = [out // held for out, held in zip(task.shape, _measured(task), strict=True)]
    if x.batch >= 0 and times[x.batch] != 1:
        x = task.extra(x)
    made = [1, *times] if x.batch == EXTRA else times
    return task.keep(x.batch, {0: x, 1: Operand(task.b.constant(made, np.int64), (len(made),), SAME)})


@rule("Concat")
def concat(task: Task) -> Results:
    return _concat(task, list(range(len(task.inputs))))


@rule("QLinearConcat", foreign=True)
def quantised_concat(task: Task) -> Results:
    return _concat(task, list(range(2, len(task.inputs), 3)))


def _concat(task: Task, positions: list[int]) -> Results:
    if len(positions) == 1:
        x = task.operand(positions[0])
        return task.keep(x.batch, axis=task.integer("axis", 0) % x.rank + (x.batch == EXTRA))
    axis = task.integer("axis", 0) % len(task.shape)
    operands, place = task.together([task.operand(i) for i in positions], axis)
    return task.keep(place, dict(zip(positions, operands, strict=True)), axis=axis + (place == EXTRA))


@rule("Split")
def split(task: Task) -> Results:
    x, axis = along(task, task.x, task.integer("axis", 0))
    return task.keep(x.batch, {0: x}, axis=axis)


@rule("Slice")
def slice_(task: Task) -> Results:
    x = task.x
    count = len(task.integers("starts", 1) or []) if task.opset < 10 else task.operand(1).shape[0]
    axes = [a % x.rank for a in task.integers("axes", 3) or range(count)]
    if x.batch >= 0 and x.batch not in axes:
        return task.keep(x.batch)
    if x.batch >= 0:
        steps = (task.integers("steps", 4) if task.opset >= 10 else None) or [1] * count
        at = axes.index(x.batch)
        if task.is_kept(x.batch) and (steps[at] == 1 or x.shape[x.batch] * task.fixed == 1):
            return _slice_elsewhere(task, at, axes, steps)
        x = task.extra(x)
    task.put("axes", 3, [a + 1 for a in axes], since=10)
    return task.keep(EXTRA, {0: x})


def _slice_elsewhere(task: Task, at: int, axes: list[int], steps: list[int]) -> Results:
    """The cut along the batch keeps all of it, so it is left out: its bounds are those of one picture."""
    if len(axes) == 1:
        return [(task.x.value, task.x.batch)]
    starts, ends = task.integers("starts", 1) or [], task.integers("ends", 2) or []
    for position, (name, numbers) in enumerate((("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))):
        if name != "steps" or task.opset >= 10:
            task.put(name, position + 1, [n for i, n in enumerate(numbers) if i != at], since=10)
    return task.keep(task.x.batch)


@rule("Pad")
def pad(task: Task) -> Results:
    x = task.x
    pads = task.integers("pads", 1)
    axes = task.integers("axes", 3) if task.opset >= 18 else None
    if pads is None:
        raise task.refusal("takes pads that are computed at run time")
    places = [a % x.rank for a in axes] if axes is not None else list(range(x.rank))
    before, after = ([0] * x.rank for _ in range(2))
    for i, axis in enumerate(places):
        before[axis], after[axis] = pads[i], pads[len(places) + i]
    if x.batch >= 0 and (before[x.batch] or after[x.batch]):
        x = task.extra(x)
    if x.batch == EXTRA:
        before, after = [0, *before], [0, *after]
    if axes is not None:
        task.put("axes", 3, list(range(len(before))), since=18)
    task.put("pads", 1, before + after, since=11)
    return task.keep(x.batch, {0: x})


@rule("Col2Im DepthToSpace SpaceToDepth")
def blocks(task: Task) -> Results:
    return task.keep(0, {0: task.at(task.x, 0)})


@rule("Trilu")
def triangle(task: Task) -> Results:
    x = task.x
    return task.keep(x.batch if x.batch < x.rank - 2 else EXTRA, {0: x if x.batch < x.rank - 2 else task.extra(x)})
