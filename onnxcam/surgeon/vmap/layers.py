"""Convolutions, pooling, normalisation, resizing, recurrence and attention: operators that name their batch axis."""

import numpy as np

from onnxcam.surgeon.vmap.pointwise import parameters_are_same
from onnxcam.surgeon.vmap.rules import rule
from onnxcam.surgeon.vmap.task import ATTRIBUTE, EXTRA, SAME, Operand, Results, Task


@rule(
    "AveragePool Conv ConvInteger ConvTranspose GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization "
    "InstanceNormalization LRN LpPool QLinearConv"
)
@rule("QLinearAveragePool QLinearGlobalAveragePool", foreign=True)
def batch_first(task: Task) -> Results:
    parameters_are_same(task)
    return task.keep(0, {0: task.at(task.x, 0)})


@rule("MaxPool")
def max_pool(task: Task) -> Results:
    if len(task.node.outputs) > 1 and task.node.outputs[1].uses():
        raise task.refusal("numbers the places of its maxima over the whole batch")
    return batch_first(task)


@rule("BatchNormalization")
def batch_norm(task: Task) -> Results:
    if task.integer("training_mode", 0):
        raise task.refusal("normalises over the whole batch (it was exported in training mode)")
    return batch_first(task)


@rule("FusedConv", foreign=True)
def fused_conv(task: Task) -> Results:
    return _first_in(task, (0, 3))


@rule("DeformConv")
def deform_conv(task: Task) -> Results:
    return _first_in(task, (0, 2, 4))


@rule("GridSample")
def grid_sample(task: Task) -> Results:
    return _first_in(task, (0, 1))


def _first_in(task: Task, positions: tuple[int, ...]) -> Results:
    """The batch in front of each of these inputs; all others are the same for every picture."""
    if any(x is not None and not x.is_same for i, x in enumerate(task.inputs) if i not in positions):
        raise task.refusal("has weights that depend on the picture")
    present = [i for i in positions if task.optional(i) is not None]
    return task.keep(0, {i: task.at(task.operand(i), 0) for i in present})


@rule("Attention")
def attention(task: Task) -> Results:
    """Query, key, value and their past have the batch in front; a mask has it only in its full rank."""
    mask = task.optional(3)
    present = [i for i in (0, 1, 2, 4, 5, 6) if task.optional(i) is not None]
    moved = {i: task.at(task.operand(i), 0) for i in present}
    if mask is not None and not mask.is_same:
        if mask.rank < 4:
            raise task.refusal("has a mask that depends on the picture and lacks the batch axis")
        moved[3] = task.at(mask, 0)
    return task.keep(0, moved)


@rule("Resize")
def resize(task: Task) -> Results:
    sizes = 3 if task.opset >= 11 else None
    if sizes is None or task.optional(sizes) is None:
        return _resized(task)
    if task.optional(1) is not None and not task.operand(1).is_same:
        raise task.refusal("has a parameter that depends on the picture")
    x = _with_an_axis_kept(task)
    found = task.node.attributes.get("keep_aspect_ratio_policy")
    if found is not None and found.as_string() != "stretch":
        raise task.refusal("keeps the aspect ratio of all axes together")
    axes = [a % x.rank for a in task.integers("axes", ATTRIBUTE) or range(x.rank)]
    if x.batch not in axes:
        return task.keep(x.batch, {0: x})
    at, numbers = axes.index(x.batch), [task.shape[a] for a in axes]
    own = task.b("Gather", task.b("Shape", x.value), task.b.constant([x.batch], np.int64), axis=0)
    parts = [task.b.constant(numbers[:at], np.int64), own, task.b.constant(numbers[at + 1 :], np.int64)]
    target = Operand(task.b("Concat", *parts, axis=0), (len(axes),), SAME)
    return task.keep(x.batch, {0: x, sizes: target})


@rule("Upsample")
def _resized(task: Task) -> Results:
    """By factors: nothing changes along the batch."""
    parameters_are_same(task)
    x = _with_an_axis_kept(task)
    return task.keep(x.batch, {0: x})


def _with_an_axis_kept(task: Task) -> Operand:
    """x with the batch on an axis that is not resized; runtimes resize few axes of tensors of few ranks."""
    x = task.x
    if x.batch >= 0 and task.is_kept(x.batch):
        return x
    free = [i for i in range(x.rank) if i != x.batch and task.is_kept(i)]
    if not free:
        raise task.refusal("resizes every axis of a tensor that has lost its batch axis")
    return task.at(x, free[0])


@rule("GRU LSTM RNN")
def recurrent(task: Task) -> Results:
    """X and Y are (time, directions, batch, ...), or (batch, time, directions, ...) with layout=1."""
    first = task.integer("layout", 0)
    places = {0: 0 if first else 1, 4: 0, 5: 0 if first else 1, 6: 0 if first else 1}
    if any(x is not None and not x.is_same for i, x in enumerate(task.inputs) if i not in places):
        raise task.refusal("has weights that depend on the picture")
    moved = {}
    for i, place in places.items():
        x = task.optional(i)
        if x is not None:
            moved[i] = task.at(x, place)
    outputs = [value for value, _ in task.keep(0, moved)]
    return [(v, 0 if first else 1 + (i == 0)) for i, v in enumerate(outputs)]


def foreign(task: Task) -> Results:
    """An operator of a runtime's own domain that no rule knows: taken for one that has its batch in front."""
    moved = {i: x for i, x in enumerate(task.inputs) if x is not None and not x.is_same}
    single = all(x.rank and x.shape[0] == 1 and x.batch in (0, EXTRA) for x in moved.values())
    if not single or any(s[:1] != (task.fixed,) for s in task.shapes):
        raise task.refusal(f"of {task.node.domain} has no batching rule")
    return task.keep(0, {i: task.at(x, 0) for i, x in moved.items()})
