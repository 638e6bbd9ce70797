"""Gradient rules for reductions over axes, and for the softmax.

ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum, ReduceLogSumExp;
Softmax, LogSoftmax.
"""

import math

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


def _axes(node: BackwardNode) -> list[int]:
    """The reduced axes, sorted."""
    rank = node.rank(node.x)
    axes = node.integers("axes", 1)
    if not axes:
        return [] if node.integer("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(a % rank for a in axes)


def _with_axes(op: Ops, node: BackwardNode, value: Value, axes: list[int]) -> Value:
    """The output or its cotangent, with the reduced axes as axes of size 1."""
    return value if node.integer("keepdims", 1) else op.unsqueeze(value, axes)


def _expanded(op: Ops, node: BackwardNode, value: Value) -> Value:
    """value repeated to the shape of x."""
    return op.Expand(value, op.Shape(node.x))


@gradient("ReduceSum ReduceMean", since=(13, 18))
def total(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    axes = _axes(node)
    back = _with_axes(op, node, dy, axes)
    if node.op_type == "ReduceMean":
        back = op.Mul(back, op.number(1 / math.prod(node.static(node.x, axes))))
    return _expanded(op, node, back)


@gradient("ReduceMax ReduceMin", since=(18, 20))
def extreme(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Equal extremes share the cotangent evenly, as in PyTorch's amax."""
    axes = _axes(node)
    is_extreme = op.indicator(op.Equal(node.x, _with_axes(op, node, node.y, axes)))
    return op.Mul(is_extreme, op.Div(_with_axes(op, node, dy, axes), op.sum(is_extreme, axes)))


@gradient("ReduceSumSquare", since=(18,))
def square_sum(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(node.x, op.Mul(_with_axes(op, node, dy, _axes(node)), op.number(2)))


@gradient("ReduceL1", since=(18,))
def l1(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(op.Sign(node.x), _with_axes(op, node, dy, _axes(node)))


@gradient("ReduceL2", since=(18,))
def l2(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """dx = dy x / |x|, and 0 at x = 0."""
    axes = _axes(node)
    length = _with_axes(op, node, node.y, axes)
    safe = op.Where(op.Equal(length, op.number(0)), op.number(1), length)
    return op.Mul(node.x, op.Div(_with_axes(op, node, dy, axes), safe))


@gradient("ReduceLogSum", since=(18, 28))
def log_sum(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    axes = _axes(node)
    return _expanded(
        op, node, op.Mul(_with_axes(op, node, dy, axes), op.Exp(op.Neg(_with_axes(op, node, node.y, axes))))
    )


@gradient("ReduceLogSumExp", since=(18, 28))
def log_sum_exp(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    axes = _axes(node)
    return op.Mul(op.Exp(op.Sub(node.x, _with_axes(op, node, node.y, axes))), _with_axes(op, node, dy, axes))


@gradient("Softmax", since=(13,))
def softmax(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    axis = node.integer("axis", -1)
    weighed = op.Mul(dy, node.y)
    return op.Sub(weighed, op.Mul(node.y, op.sum(weighed, [axis])))


@gradient("LogSoftmax", since=(13,))
def log_softmax(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    axis = node.integer("axis", -1)
    return op.Sub(dy, op.Mul(op.Exp(node.y), op.sum(dy, [axis])))
