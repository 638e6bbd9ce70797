"""Batch rules for indexing: Gather, GatherElements, GatherND, ScatterElements, Scatter, ScatterND, OneHot;
ArrayFeatureExtractor of ai.onnx.ml.
"""

from onnxcam.surgeon.vmap.pointwise import off_axis
from onnxcam.surgeon.vmap.registry import rule
from onnxcam.surgeon.vmap.task import SHARED, STACKED, Operand, Results, Task


@rule("Gather")
def gather(task: Task) -> Results:
    data, indices = task.x, task.operand(1)
    axis = task.integer("axis", 0) % data.rank
    if data.is_shared:
        if indices.batch == STACKED:
            value = task.reuse(STACKED)[0][0]
            return [(task.move_to_front(value, axis, len(task.shape) + 1), STACKED)]
        return task.reuse(axis + indices.batch)
    if not indices.is_shared:
        return _gather_each(task, data, indices, axis)
    if data.batch == axis and data.shape[axis] == task.original_batch == 1 and indices.shape in ((), (1,)):
        # The index selects the only sample, as 0 or -1: all N samples are kept.
        all_samples = (data.value, data.batch)
        return [all_samples] if indices.rank else [(task.move_to_front(data.value, axis, data.rank), STACKED)]
    data, axis = off_axis(task, data, axis)
    batch = data.batch if data.batch < axis else data.batch - 1 + indices.rank
    return task.reuse(STACKED if data.batch == STACKED else batch, {0: data}, axis=axis)


def _gather_each(task: Task, data: Operand, indices: Operand, axis: int) -> Results:
    """Data and indices both differ between the samples: GatherND with a batch axis."""
    if task.opset < 12:
        raise task.refusal("gathers from data and by indices that both depend on the image, which needs opset 12")
    data, indices = task.stacked(data), task.stacked(indices)
    rank = data.rank + 1
    table = data.value
    if axis:
        table = task.b("Transpose", table, perm=[0, axis + 1, *(i for i in range(1, rank) if i != axis + 1)])
    index_tuples = task.b.unsqueeze(indices.value, [indices.rank + 1])
    gathered = task.b("GatherND", table, index_tuples, batch_dims=1)
    if axis:
        # (N, indices, axes before, axes after) -> (N, axes before, indices, axes after)
        q = indices.rank
        before, after = range(1 + q, 1 + q + axis), range(1 + q + axis, q + data.rank)
        gathered = task.b("Transpose", gathered, perm=[0, *before, *range(1, 1 + q), *after])
    return [(gathered, STACKED)]


@rule("GatherElements ScatterElements Scatter")
def elements(task: Task) -> Results:
    operands = [x for x in task.inputs if x is not None]
    axis = task.integer("axis", 0) % task.x.rank
    operands, batch = task.at_common_axis(operands, axis)
    return task.reuse(batch, dict(enumerate(operands)), axis=axis + (batch == STACKED))


@rule("GatherND")
def gather_nd(task: Task) -> Results:
    if task.opset < 12:
        raise task.refusal("has no batch axes before opset 12")
    data, indices = task.stacked(task.x), task.stacked(task.operand(1))
    return task.reuse(STACKED, {0: data, 1: indices}, batch_dims=task.integer("batch_dims", 0) + 1)


@rule("ScatterND")
def scatter_nd(task: Task) -> Results:
    """The batch axis is moved last, where it is part of the slices that the (shared) indices address."""
    if not task.operand(1).is_shared:
        raise task.refusal("scatters to indices that depend on the image")
    data, updates = (_batch_last(task, task.operand(i)) for i in (0, 2))
    rank = len(task.shape)
    value = task.reuse(STACKED, {0: data, 2: updates})[0][0]
    return [(task.move_to_front(value, rank, rank + 1), STACKED)]


def _batch_last(task: Task, x: Operand) -> Operand:
    value = task.b("Transpose", task.stacked(x).value, perm=[*range(1, x.rank + 1), 0])
    return Operand(value, x.shape, SHARED)


@rule("OneHot")
def one_hot(task: Task) -> Results:
    if not all(task.operand(i).is_shared for i in (1, 2)):
        raise task.refusal("has a parameter that depends on the image")
    x, rank = task.x, len(task.shape)
    axis = task.integer("axis", -1) % rank
    if x.batch == STACKED:
        return task.reuse(STACKED, axis=axis + 1)
    return task.reuse(x.batch + (axis <= x.batch))


@rule("ArrayFeatureExtractor", foreign=True)
def extractor(task: Task) -> Results:
    """Gathers along the last axis; the flattened indices follow each other there."""
    data, indices = task.x, task.operand(1)
    if data.is_shared:
        return task.reuse(
            len(task.shape) - 1, {1: task.batch_at(indices, 0) if indices.rank else task.stacked(indices)}
        )
    if not indices.is_shared:
        raise task.refusal("gathers from data and by indices that both depend on the image")
    data, _ = off_axis(task, data, -1)
    if data.rank == 1:
        raise task.refusal("takes a table without a batch")
    return task.reuse(data.batch, {0: data})
