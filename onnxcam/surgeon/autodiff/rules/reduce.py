"""Sums, means, norms and extremes over axes, and the softmax."""

import math

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


def _axes(step: BackwardNode) -> list[int]:
    rank = step.rank(step.x)
    given = step.integers("axes", 1)
    if not given:
        return [] if step.integer("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(a % rank for a in given)


def _kept(op: Ops, step: BackwardNode, value: Value, axes: list[int]) -> Value:
    """The output or its cotangent with the reduced axes in place."""
    return value if step.integer("keepdims", 1) else op.unsqueeze(value, axes)


def _spread(op: Ops, step: BackwardNode, value: Value) -> Value:
    return op.Expand(value, op.Shape(step.x))


@gradient("ReduceSum ReduceMean", since=(13, 18))
def total(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    axes = _axes(step)
    back = _kept(op, step, dy, axes)
    if step.node.op_type == "ReduceMean":
        back = op.Mul(back, op.number(1 / math.prod(step.static(step.x, axes))))
    return _spread(op, step, back)


@gradient("ReduceMax ReduceMin", since=(18, 20))
def extreme(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Shared evenly among equals, as PyTorch's amax does."""
    axes = _axes(step)
    chosen = op.real(op.Equal(step.x, _kept(op, step, step.y, axes)))
    return op.Mul(chosen, op.Div(_kept(op, step, dy, axes), op.sum(chosen, axes)))


@gradient("ReduceSumSquare", since=(18,))
def square_sum(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(step.x, op.Mul(_kept(op, step, dy, _axes(step)), op.number(2)))


@gradient("ReduceL1", since=(18,))
def l1(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(op.Sign(step.x), _kept(op, step, dy, _axes(step)))


@gradient("ReduceL2", since=(18,))
def l2(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """x / |x|, and 0 at 0."""
    axes = _axes(step)
    length = _kept(op, step, step.y, axes)
    safe = op.Where(op.Equal(length, op.number(0)), op.number(1), length)
    return op.Mul(step.x, op.Div(_kept(op, step, dy, axes), safe))


@gradient("ReduceLogSum", since=(18, 28))
def log_sum(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    axes = _axes(step)
    return _spread(op, step, op.Mul(_kept(op, step, dy, axes), op.Exp(op.Neg(_kept(op, step, step.y, axes)))))


@gradient("ReduceLogSumExp", since=(18, 28))
def log_sum_exp(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    axes = _axes(step)
    return op.Mul(op.Exp(op.Sub(step.x, _kept(op, step, step.y, axes))), _kept(op, step, dy, axes))


@gradient("Softmax", since=(13,))
def softmax(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    axis = step.integer("axis", -1)
    weighed = op.Mul(dy, step.y)
    return op.Sub(weighed, op.Mul(step.y, op.sum(weighed, [axis])))


@gradient("LogSoftmax", since=(13,))
def log_softmax(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    axis = step.integer("axis", -1)
    return op.Sub(dy, op.Mul(op.Exp(step.y), op.sum(dy, [axis])))
