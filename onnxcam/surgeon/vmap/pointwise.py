"""Operators that compute each entry by itself, and those that work along an axis or a few."""

from onnxcam.surgeon.vmap.rules import rule
from onnxcam.surgeon.vmap.task import ATTRIBUTE, EXTRA, SAME, Operand, Results, Task

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


@rule(UNARY)
@rule("QuickGelu QLinearSigmoid QLinearLeakyRelu", foreign=True)
def unary(task: Task) -> Results:
    if task.x.is_same:
        raise task.refusal("has a parameter that depends on the picture")
    return task.keep(task.x.batch)


@rule("CastLike")
def cast_like(task: Task) -> Results:
    """Of the second input only the type counts, which is the same for every picture."""
    return [(task.node.outputs[0], SAME)] if task.x.is_same else task.keep(task.x.batch)


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
    if any(x is not None and not x.is_same for i, x in enumerate(task.inputs) if i not in positions):
        raise task.refusal("takes a scale that depends on the picture")
    operands, batch = task.align([task.operand(i) for i in positions])
    return task.keep(batch, dict(zip(positions, operands, strict=True)))


@rule("Dropout")
def dropout(task: Task) -> Results:
    training = task.optional(2)
    if training is not None and (task.array(training) is None or bool(task.array(training))):
        raise task.refusal("draws random numbers")
    return unary(task)


@rule("Clip")
def clip(task: Task) -> Results:
    bounds = [i for i in (1, 2) if task.optional(i) is not None]
    if all(task.operand(i).is_same for i in bounds):
        return unary(task)
    # Clip takes scalars only; with one bound a picture it is written out.
    operands, batch = task.align([task.x, *(task.operand(i) for i in bounds)])
    value = operands[0].value
    for i, bound in zip(bounds, operands[1:], strict=True):
        value = task.b("Max" if i == 1 else "Min", value, bound.value)
    return [(value, batch)]


@rule("QuantizeLinear DequantizeLinear")
def quantise(task: Task) -> Results:
    scales = [x for x in task.inputs[1:] if x is not None]
    if not all(x.is_same for x in scales):
        raise task.refusal("takes a scale that depends on the picture")
    x = task.x
    if scales[0].rank == 0 or max(scales[0].shape) == 1:
        return task.keep(x.batch)
    if scales[0].rank > 1:
        raise task.refusal("quantises in blocks")
    x, axis = along(task, x, task.integer("axis", 1))
    return task.keep(x.batch, {0: x}, axis=axis)


def along(task: Task, x: Operand, axis: int) -> tuple[Operand, int]:
    """x with the batch elsewhere than on the (old) axis, and that axis counted in the new tensor."""
    axis %= x.rank
    x = task.extra(x) if x.batch == axis else x
    return x, axis + (x.batch == EXTRA)


@rule("CumSum")
def cumulative(task: Task) -> Results:
    axis = (task.integers("axis", 1) or [0])[0]
    x, axis = along(task, task.x, axis)
    return task.keep(x.batch, {0: x, 1: Operand(task.b.constant(axis, "int64"), (), task.operand(1).batch)})


@rule("Hardmax LogSoftmax Softmax")
def softmax(task: Task) -> Results:
    if task.opset < 13:
        # Everything from the axis on is one row.
        return _trailing(task, task.integer("axis", 1))
    x, axis = along(task, task.x, task.integer("axis", -1))
    return task.keep(x.batch, {0: x}, axis=axis)


@rule("LpNormalization TopK")
@rule("QLinearSoftmax", foreign=True)
def normalised_along(task: Task) -> Results:
    parameters_are_same(task)
    x, axis = along(task, task.x, task.integer("axis", -1))
    return task.keep(x.batch, {0: x}, axis=axis)


@rule("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def layer_norm(task: Task) -> Results:
    parameters_are_same(task)
    return _trailing(task, task.integer("axis", -1))


def _trailing(task: Task, axis: int) -> Results:
    """For operators over all axes from one on."""
    x = task.x
    axis %= x.rank
    x = task.extra(x) if x.batch >= axis else x
    return task.keep(x.batch, {0: x}, axis=axis + (x.batch == EXTRA))


def parameters_are_same(task: Task) -> None:
    """Raises CannotBatch if an input other than the first depends on the picture."""
    if any(x is not None and not x.is_same for x in task.inputs[1:]):
        raise task.refusal("has a parameter that depends on the picture")


@rule("ArgMax ArgMin")
def extreme_index(task: Task) -> Results:
    axis = task.integer("axis", 0) % task.x.rank
    x, new = along(task, task.x, axis)
    gone = x.batch > axis and not task.integer("keepdims", 1)
    return task.keep(x.batch - gone, {0: x}, axis=new)


@rule("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum")
@rule("ReduceSumSquare")
def reduction(task: Task) -> Results:
    x, kept = task.x, bool(task.integer("keepdims", 1))
    found = task.integers("axes", 1)
    if not found and task.integer("noop_with_empty_axes", 0):
        return task.keep(x.batch)
    axes = sorted({a % x.rank for a in found}) if found else list(range(x.rank))
    if x.batch in axes and x.shape[x.batch] == task.fixed == 1:
        axes.remove(x.batch)
        if not axes and task.node.op_type not in IDENTITY_OVER_ONE:
            axes, x = [x.batch], task.extra(x)
    elif x.batch in axes:
        x = task.extra(x)
    return _reduced(task, x, axes, kept)


def _reduced(task: Task, x: Operand, axes: list[int], kept: bool) -> Results:
    if not axes and x.batch >= 0:
        value, place = x.value, x.batch
    else:
        written = [a + (x.batch == EXTRA) for a in axes]
        task.put("axes", 1, written, since=13 if task.node.op_type == "ReduceSum" else 18)
        value = task.keep(x.batch, {0: x})[0][0]
        place = x.batch if kept or x.batch == EXTRA else x.batch - sum(a < x.batch for a in axes)
    rank = x.rank if kept else x.rank - len(axes)
    if x.batch >= 0 and not kept and rank > len(task.shape):
        # The original has reduced its only picture away.
        return [(task.front(value, place, rank), EXTRA)]
    return [(value, place)]


@rule("MeanVarianceNormalization")
def mean_variance(task: Task) -> Results:
    x = task.x
    axes = [a % x.rank for a in task.integers("axes", ATTRIBUTE) or [0, 2, 3]]
    if x.batch in axes and x.shape[x.batch] == task.fixed == 1:
        axes.remove(x.batch)
    if x.batch in axes or not axes:
        raise task.refusal("computes a mean over the batch")
    return task.keep(x.batch, axes=[a + (x.batch == EXTRA) for a in axes])
