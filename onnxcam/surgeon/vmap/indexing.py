"""Operators that pick entries by number, or put them back."""

from onnxcam.surgeon.vmap.pointwise import along
from onnxcam.surgeon.vmap.rules import rule
from onnxcam.surgeon.vmap.task import EXTRA, SAME, Operand, Results, Task


@rule("Gather")
def gather(task: Task) -> Results:
    data, indices = task.x, task.operand(1)
    axis = task.integer("axis", 0) % data.rank
    if data.is_same:
        if indices.batch == EXTRA:
            value = task.keep(EXTRA)[0][0]
            return [(task.front(value, axis, len(task.shape) + 1), EXTRA)]
        return task.keep(axis + indices.batch)
    if not indices.is_same:
        return _gather_each(task, data, indices, axis)
    if data.batch == axis and data.shape[axis] == task.fixed == 1 and indices.shape in ((), (1,)):
        # The only picture, whatever the number says: 0 or -1.
        rest = (data.value, data.batch)
        return [rest] if indices.rank else [(task.front(data.value, axis, data.rank), EXTRA)]
    data, axis = along(task, data, axis)
    place = data.batch if data.batch < axis else data.batch - 1 + indices.rank
    return task.keep(EXTRA if data.batch == EXTRA else place, {0: data}, axis=axis)


def _gather_each(task: Task, data: Operand, indices: Operand, axis: int) -> Results:
    """Each picture with numbers of its own."""
    if task.opset < 12:
        raise task.refusal("looks up each picture's own numbers in its own table, for which opset 12 is needed")
    data, indices = task.extra(data), task.extra(indices)
    rank = data.rank + 1
    table = data.value
    if axis:
        table = task.b("Transpose", table, perm=[0, axis + 1, *(i for i in range(1, rank) if i != axis + 1)])
    numbers = task.b.unsqueeze(indices.value, [indices.rank + 1])
    found = task.b("GatherND", table, numbers, batch_dims=1)
    if axis:
        # (N, indices, axes before, axes after) -> (N, axes before, indices, axes after)
        q = indices.rank
        before, after = range(1 + q, 1 + q + axis), range(1 + q + axis, q + data.rank)
        found = task.b("Transpose", found, perm=[0, *before, *range(1, 1 + q), *after])
    return [(found, EXTRA)]


@rule("GatherElements ScatterElements Scatter")
def elements(task: Task) -> Results:
    operands = [x for x in task.inputs if x is not None]
    axis = task.integer("axis", 0) % task.x.rank
    operands, place = task.together(operands, axis)
    return task.keep(place, dict(enumerate(operands)), axis=axis + (place == EXTRA))


@rule("GatherND")
def gather_nd(task: Task) -> Results:
    if task.opset < 12:
        raise task.refusal("has no batch axes before opset 12")
    data, indices = task.extra(task.x), task.extra(task.operand(1))
    return task.keep(EXTRA, {0: data, 1: indices}, batch_dims=task.integer("batch_dims", 0) + 1)


@rule("ScatterND")
def scatter_nd(task: Task) -> Results:
    """With the pictures as the last axis, all are part of the entries that the same numbers put in place."""
    if not task.operand(1).is_same:
        raise task.refusal("scatters to places that depend on the picture")
    data, updates = (_pictures_last(task, task.operand(i)) for i in (0, 2))
    rank = len(task.shape)
    value = task.keep(EXTRA, {0: data, 2: updates})[0][0]
    return [(task.front(value, rank, rank + 1), EXTRA)]


def _pictures_last(task: Task, x: Operand) -> Operand:
    value = task.b("Transpose", task.extra(x).value, perm=[*range(1, x.rank + 1), 0])
    return Operand(value, x.shape, SAME)


@rule("OneHot")
def one_hot(task: Task) -> Results:
    if not all(task.operand(i).is_same for i in (1, 2)):
        raise task.refusal("has a parameter that depends on the picture")
    x, rank = task.x, len(task.shape)
    axis = task.integer("axis", -1) % rank
    if x.batch == EXTRA:
        return task.keep(EXTRA, axis=axis + 1)
    return task.keep(x.batch + (axis <= x.batch))


@rule("ArrayFeatureExtractor", foreign=True)
def extractor(task: Task) -> Results:
    """Columns of a table: the numbers, flattened, follow each other along the last axis."""
    data, indices = task.x, task.operand(1)
    if data.is_same:
        return task.keep(len(task.shape) - 1, {1: task.at(indices, 0) if indices.rank else task.extra(indices)})
    if not indices.is_same:
        raise task.refusal("looks up each picture's own numbers in its own table")
    data, _ = along(task, data, -1)
    if data.rank == 1:
        raise task.refusal("takes a table without a batch")
    return task.keep(data.batch, {0: data})
