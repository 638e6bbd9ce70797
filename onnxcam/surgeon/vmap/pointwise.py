"""Batch rules for elementwise operators, and for operators that work along one or several axes.

Elementwise: Add, Mul, Relu, Sigmoid, Gelu, Clip, Where, Cast, Dropout, QuantizeLinear, DequantizeLinear, ... Axes:
Softmax, LogSoftmax, LayerNormalization, RMSNormalization, LpNormalization, MeanVarianceNormalization, CumSum, TopK,
ArgMax, ArgMin, and all reductions (ReduceMean, ReduceSum, ReduceMax, ...).
"""

from onnxcam.surgeon.vmap.registry import rule
from onnxcam.surgeon.vmap.task import SHARED, STACKED, Operand, Results, Task

UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid "
    "Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
BROADCAST = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor"
)
IDENTITY_OVER_ONE = frozenset("ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceLogSumExp".split())
"""Reductions that return their input when it has one entry."""


@rule(UNARY)
@rule("QuickGelu QLinearSigmoid QLinearLeakyRelu", foreign=True)
def unary(task: Task) -> Results:
    if task.x.is_shared:
        raise task.refusal("has a parameter that depends on the image")
    return task.reuse(task.x.batch)


@rule("CastLike")
def cast_like(task: Task) -> Results:
    """Only the type of the second input is read, which is the same for every sample."""
    return [(task.node.outputs[0], SHARED)] if task.x.is_shared else task.reuse(task.x.batch)


@rule(BROADCAST)
@rule("Gelu BiasGelu FastGelu", foreign=True)
def broadcast(task: Task) -> Results:
    return _broadcast(task, list(range(len(task.inputs))))


@rule("QLinearAdd QLinearMul", foreign=True)
def quantised_broadcast(task: Task) -> Results:
    return _broadcast(task, [0, 3])


@rule("QLinearWhere", foreign=True)
def quantised_where(task: Task) -> Results:
    return _broadcast(task, [0, 1, 4])


def _broadcast(task: Task, positions: list[int]) -> Results:
    positions = [i for i in positions if task.optional(i) is not None]
    if any(x is not None and not x.is_shared for i, x in enumerate(task.inputs) if i not in positions):
        raise task.refusal("takes a scale that depends on the image")
    operands, batch = task.align_broadcast([task.operand(i) for i in positions])
    return task.reuse(batch, dict(zip(positions, operands, strict=True)))


@rule("Dropout")
def dropout(task: Task) -> Results:
    training = task.optional(2)
    if training is not None and (task.array(training) is None or bool(task.array(training))):
        raise task.refusal("draws random numbers")
    return unary(task)


@rule("Clip")
def clip(task: Task) -> Results:
    bounds = [i for i in (1, 2) if task.optional(i) is not None]
    if all(task.operand(i).is_shared for i in bounds):
        return unary(task)
    # Clip takes scalar bounds only; bounds that differ between samples need Max and Min.
    operands, batch = task.align_broadcast([task.x, *(task.operand(i) for i in bounds)])
    value = operands[0].value
    for i, bound in zip(bounds, operands[1:], strict=True):
        value = task.b("Max" if i == 1 else "Min", value, bound.value)
    return [(value, batch)]


@rule("QuantizeLinear DequantizeLinear")
def quantise(task: Task) -> Results:
    scales = [x for x in task.inputs[1:] if x is not None]
    if not all(x.is_shared for x in scales):
        raise task.refusal("takes a scale that depends on the image")
    x = task.x
    if scales[0].rank == 0 or max(scales[0].shape) == 1:
        return task.reuse(x.batch)
    if scales[0].rank > 1:
        raise task.refusal("quantises in blocks")
    x, axis = off_axis(task, x, task.integer("axis", 1))
    return task.reuse(x.batch, {0: x}, axis=axis)


def off_axis(task: Task, x: Operand, axis: int) -> tuple[Operand, int]:
    """x with its batch not on the axis, and the number of that axis in the new tensor."""
    axis %= x.rank
    x = task.stacked(x) if x.batch == axis else x
    return x, axis + (x.batch == STACKED)


@rule("CumSum")
def cumulative(task: Task) -> Results:
    axis = (task.integers("axis", 1) or [0])[0]
    x, axis = off_axis(task, task.x, axis)
    return task.reuse(x.batch, {0: x, 1: Operand(task.b.constant(axis, "int64"), (), task.operand(1).batch)})


@rule("Hardmax LogSoftmax Softmax")
def softmax(task: Task) -> Results:
    if task.opset < 13:
        # Before opset 13 Softmax runs over all axes from `axis` on.
        return _trailing(task, task.integer("axis", 1))
    x, axis = off_axis(task, task.x, task.integer("axis", -1))
    return task.reuse(x.batch, {0: x}, axis=axis)


@rule("LpNormalization TopK")
@rule("QLinearSoftmax", foreign=True)
def normalised_along(task: Task) -> Results:
    check_parameters_shared(task)
    x, axis = off_axis(task, task.x, task.integer("axis", -1))
    return task.reuse(x.batch, {0: x}, axis=axis)


@rule("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def layer_norm(task: Task) -> Results:
    check_parameters_shared(task)
    return _trailing(task, task.integer("axis", -1))


def _trailing(task: Task, axis: int) -> Results:
    """For operators that work over all axes from `axis` on."""
    x = task.x
    axis %= x.rank
    x = task.stacked(x) if x.batch >= axis else x
    return task.reuse(x.batch, {0: x}, axis=axis + (x.batch == STACKED))


def check_parameters_shared(task: Task) -> None:
    """Raises CannotBatch if an input other than the first differs between samples."""
    if any(x is not None and not x.is_shared for x in task.inputs[1:]):
        raise task.refusal("has a parameter that depends on the image")


@rule("ArgMax ArgMin")
def extreme_index(task: Task) -> Results:
    axis = task.integer("axis", 0) % task.x.rank
    x, new_axis = off_axis(task, task.x, axis)
    is_dropped = x.batch > axis and not task.integer("keepdims", 1)
    return task.reuse(x.batch - is_dropped, {0: x}, axis=new_axis)


@rule("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum")
@rule("ReduceSumSquare")
def reduction(task: Task) -> Results:
    x, keepdims = task.x, bool(task.integer("keepdims", 1))
    stated = task.integers("axes", 1)
    if not stated and task.integer("noop_with_empty_axes", 0):
        return task.reuse(x.batch)
    axes = sorted({a % x.rank for a in stated}) if stated else list(range(x.rank))
    if x.batch in axes and x.shape[x.batch] == task.original_batch == 1:
        axes.remove(x.batch)
        if not axes and task.node.op_type not in IDENTITY_OVER_ONE:
            axes, x = [x.batch], task.stacked(x)
    elif x.batch in axes:
        x = task.stacked(x)
    return _reduced(task, x, axes, keepdims)


def _reduced(task: Task, x: Operand, axes: list[int], keepdims: bool) -> Results:
    """axes: of one sample's tensor."""
    if not axes and x.batch >= 0:
        value, batch = x.value, x.batch
    else:
        new_axes = [a + (x.batch == STACKED) for a in axes]
        task.set_integers("axes", 1, new_axes, since=13 if task.node.op_type == "ReduceSum" else 18)
        value = task.reuse(x.batch, {0: x})[0][0]
        batch = x.batch if keepdims or x.batch == STACKED else x.batch - sum(a < x.batch for a in axes)
    rank = x.rank if keepdims else x.rank - len(axes)
    if x.batch >= 0 and not keepdims and rank > len(task.shape):
        # The original reduced the batch axis away.
        return [(task.move_to_front(value, batch, rank), STACKED)]
    return [(value, batch)]


@rule("MeanVarianceNormalization")
def mean_variance(task: Task) -> Results:
    x = task.x
    axes = [a % x.rank for a in task.integers("axes") or [0, 2, 3]]
    if x.batch in axes and x.shape[x.batch] == task.original_batch == 1:
        axes.remove(x.batch)
    if x.batch in axes or not axes:
        raise task.refusal("computes a mean over the batch")
    return task.reuse(x.batch, axes=[a + (x.batch == STACKED) for a in axes])
