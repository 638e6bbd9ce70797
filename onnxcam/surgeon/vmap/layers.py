"""Batch rules for layers whose batch axis is fixed by the operator, mostly axis 0.

Conv, ConvTranspose, ConvInteger, QLinearConv, FusedConv, DeformConv; MaxPool, AveragePool and the other poolings;
BatchNormalization, InstanceNormalization, GroupNormalization, LRN; Resize, Upsample, GridSample; RoiAlign; LSTM, GRU,
RNN; Attention; and foreign(), for operators of com.microsoft and ai.onnx.ml that have no rule.
"""

import numpy as np
import onnx_ir

from onnxcam.surgeon.vmap.pointwise import check_parameters_shared
from onnxcam.surgeon.vmap.registry import REGIONS, rule
from onnxcam.surgeon.vmap.task import SHARED, STACKED, Operand, Results, Task


@rule(
    "AveragePool Conv ConvInteger ConvTranspose GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization "
    "InstanceNormalization LRN LpPool QLinearConv"
)
@rule("QLinearAveragePool QLinearGlobalAveragePool", foreign=True)
def batch_first(task: Task) -> Results:
    check_parameters_shared(task)
    return task.reuse(0, {0: task.batch_at(task.x, 0)})


@rule("MaxPool")
def max_pool(task: Task) -> Results:
    if len(task.node.outputs) > 1 and task.node.outputs[1].uses():
        raise task.refusal("numbers the positions of its maxima over the whole batch")
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
    """The inputs at these positions have their batch at axis 0. All others must be shared."""
    if any(x is not None and not x.is_shared for i, x in enumerate(task.inputs) if i not in positions):
        raise task.refusal("has weights that depend on the image")
    present = [i for i in positions if task.optional(i) is not None]
    return task.reuse(0, {i: task.batch_at(task.operand(i), 0) for i in present})


@rule("Attention")
def attention(task: Task) -> Results:
    """Query, key, value and past have the batch at axis 0; a mask has a batch axis only if its rank is 4."""
    mask = task.optional(3)
    present = [i for i in (0, 1, 2, 4, 5, 6) if task.optional(i) is not None]
    moved = {i: task.batch_at(task.operand(i), 0) for i in present}
    if mask is not None and not mask.is_shared:
        if mask.rank < 4:
            raise task.refusal("has a mask that depends on the image and lacks the batch axis")
        moved[3] = task.batch_at(mask, 0)
    return task.reuse(0, moved)


@rule("Resize")
def resize(task: Task) -> Results:
    sizes = 3 if task.opset >= 11 else None
    if sizes is None or task.optional(sizes) is None:
        return _resized(task)
    if task.optional(1) is not None and not task.operand(1).is_shared:
        raise task.refusal("has a parameter that depends on the image")
    x = _batch_on_kept_axis(task)
    policy = task.node.attributes.get("keep_aspect_ratio_policy")
    if policy is not None and policy.as_string() != "stretch":
        raise task.refusal("keeps the aspect ratio of all axes together")
    axes = [a % x.rank for a in task.integers("axes") or range(x.rank)]
    if x.batch not in axes:
        return task.reuse(x.batch, {0: x})
    at, sizes_of_axes = axes.index(x.batch), [task.shape[a] for a in axes]
    batch_length = task.b("Gather", task.b("Shape", x.value), task.b.constant([x.batch], np.int64), axis=0)
    parts = [
        task.b.constant(sizes_of_axes[:at], np.int64),
        batch_length,
        task.b.constant(sizes_of_axes[at + 1 :], np.int64),
    ]
    target = Operand(task.b("Concat", *parts, axis=0), (len(axes),), SHARED)
    return task.reuse(x.batch, {0: x, sizes: target})


@rule("Upsample")
def _resized(task: Task) -> Results:
    """Resized by scales: the scale along the batch axis is 1."""
    check_parameters_shared(task)
    x = _batch_on_kept_axis(task)
    return task.reuse(x.batch, {0: x})


def _batch_on_kept_axis(task: Task) -> Operand:
    """x with its batch on an axis that is not resized. Not STACKED: runtimes limit the rank of a resized tensor."""
    x = task.x
    if x.batch >= 0 and task.has_same_size(x.batch):
        return x
    free = [i for i in range(x.rank) if i != x.batch and task.has_same_size(i)]
    if not free:
        raise task.refusal("resizes every axis of a tensor that has lost its batch axis")
    return task.batch_at(x, free[0])


@rule("RoiAlign")
def roi_align(task: Task) -> Results:
    """Regions refer to the samples of the feature map by number, so sample n adds n times the number of its own."""
    if task.original_batch > 1:
        raise task.refusal(REGIONS)
    x, regions, samples = (task.operand(i) for i in range(3))
    moved = {i: task.batch_at(operand, 0) for i, operand in enumerate((x, regions, samples)) if i or not x.is_shared}
    if not x.is_shared:
        each = task.b("ConstantOfShape", task.batch_size.value(), value=onnx_ir.tensor(np.ones(1, np.int64)))
        numbers = task.b("Transpose", task.b("NonZero", each), perm=[1, 0])  # 0 to N-1 in a column
        first = task.b("Mul", numbers, task.b.constant([x.shape[0]], np.int64))
        shifted = task.b("Add", task.stacked(samples).value, first)
        moved[2] = Operand(task.reshape(shifted, [-1]), samples.shape, 0)
    return task.reuse(0, moved)


@rule("GRU LSTM RNN")
def recurrent(task: Task) -> Results:
    """X and Y are (time, directions, batch, ...), or (batch, time, directions, ...) with layout=1."""
    first = task.integer("layout", 0)
    batch_axes = {0: 0 if first else 1, 4: 0, 5: 0 if first else 1, 6: 0 if first else 1}
    if any(x is not None and not x.is_shared for i, x in enumerate(task.inputs) if i not in batch_axes):
        raise task.refusal("has weights that depend on the image")
    moved = {}
    for i, batch in batch_axes.items():
        x = task.optional(i)
        if x is not None:
            moved[i] = task.batch_at(x, batch)
    outputs = [value for value, _ in task.reuse(0, moved)]
    return [(v, 0 if first else 1 + (i == 0)) for i, v in enumerate(outputs)]


def foreign(task: Task) -> Results:
    """An operator outside the standard without a rule: assumed to have the batch at axis 0 of inputs and outputs."""
    moved = {i: x for i, x in enumerate(task.inputs) if x is not None and not x.is_shared}
    single = all(x.rank and x.shape[0] == 1 and x.batch in (0, STACKED) for x in moved.values())
    if not single or any(s[:1] != (task.original_batch,) for s in task.shapes):
        raise task.refusal(f"of {task.node.domain} has no batching rule")
    return task.reuse(0, {i: task.batch_at(x, 0) for i, x in moved.items()})
