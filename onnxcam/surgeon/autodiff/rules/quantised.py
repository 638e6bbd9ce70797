"""Gradient rules for quantised models. Rounding counts as the identity (straight-through estimator).

QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, QLinearConv, ConvInteger, MatMulInteger; of com.microsoft
QLinearAdd, QLinearGlobalAveragePool, QGemm. (Bengio et al. 2013, arXiv:1308.3432.)
"""

import numpy as np

from onnxcam.surgeon.autodiff.rules.conv import convolved_back
from onnxcam.surgeon.autodiff.rules.elementwise import TYPES
from onnxcam.surgeon.autodiff.rules.pool import global_average
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("DequantizeLinear", since=(10, 13, *TYPES))
def dequantise(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Cotangents between QuantizeLinear and DequantizeLinear are kept in real units, so neither rule has the scale."""
    node.only(0)
    return dy


@gradient("QuantizeLinear", since=(10, 13, *TYPES))
def quantise(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """No gradient where the integers saturate: quantisers drop a Relu that the integer range replaces."""
    node.only(0)
    if _is_scored(node.y):
        return dy
    scale, zero, kind = np.asarray(node.array(1), np.float64), node.array(2), node.quantised_dtype()
    if kind.kind not in "iu":
        raise node.refusal(f"quantises to {kind}")
    limits = np.iinfo(kind.name)
    shift = np.zeros_like(scale) if zero is None else np.asarray(zero, np.float64)
    rank = node.rank(node.x)
    if scale.ndim > 1:
        raise node.refusal("quantises in blocks")
    shape = [-1 if i == node.integer("axis", 1) % rank else 1 for i in range(rank)] if scale.size > 1 else []
    low, high = (op.number(((limit - shift) * scale).reshape(shape)) for limit in (limits.min, limits.max))
    inside = op.And(op.Greater(node.x, low), op.Less(node.x, high))
    return op.Mul(dy, op.indicator(inside))


def _is_scored(quantised: Value) -> bool:
    """Whether only onnxcam's scoring nodes read the dequantised tensor: a saturated logit keeps its gradient."""
    readers = [u.node for u in quantised.uses() if not str(u.node.outputs[0].name).startswith(PREFIX)]
    next_readers = [u.node for n in readers for v in n.outputs for u in v.uses()]
    return (
        bool(readers)
        and all(n.op_type == "DequantizeLinear" for n in readers)
        and all(str(n.outputs[0].name).startswith(PREFIX) for n in next_readers)
    )


MICROSOFT = "com.microsoft"
PREFIX = "onnxcam/"
"""The names of all tensors that onnxcam adds to a graph begin with it."""


def _unsaturated(op: Ops, node: BackwardNode, dy: Value, zero_point: int) -> Value:
    """dy where the output's integers lie inside their range, 0 elsewhere. zero_point: position of that input."""
    if _is_scored(node.y):
        return dy
    zero = node.array(zero_point)
    limits = np.iinfo((zero.dtype if zero is not None else np.dtype(np.uint8)).name)
    real = op.Cast(node.y, to=int(op.dtype))
    inside = op.And(op.Greater(real, op.number(limits.min)), op.Less(real, op.number(limits.max)))
    return op.Mul(dy, op.indicator(inside))


@gradient("QLinearConv", since=(10,))
def quantised_conv(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Inputs: x, weight and output, each followed by its scale and zero point (the output has these only); bias."""
    node.only(0)
    stored, scale, zero = node.inputs[3:6]
    weight = op.DequantizeLinear(stored, scale, zero, axis=0)
    shape = node.static(stored, range(node.rank(stored)))
    return convolved_back(op, node, _unsaturated(op, node, dy, 7), weight, shape)


@gradient("QLinearAdd", since=(0,), domain=MICROSOFT)
def quantised_add(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Inputs: a, its scale and zero point, b, its scale and zero point, the output's scale and zero point."""
    inside = _unsaturated(op, node, dy, 7)
    result = node.dims(node.y)
    a, b = (op.sum_to(inside, result, node.dims(node.inputs[i])) for i in (0, 3))
    return a, None, None, b


@gradient("QLinearGlobalAveragePool", since=(0,), domain=MICROSOFT)
def quantised_average(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    if node.integer("channels_last", 0):
        raise node.refusal("has its channels last")
    return global_average(op, node, _unsaturated(op, node, dy, 4))


@gradient("QGemm", since=(0,), domain=MICROSOFT)
def quantised_gemm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Inputs: a, its scale and zero point, b, its scale and zero point, bias, the output's scale and zero point.

    The output is real if it has no scale.
    """
    node.only(0)
    stored, scale, zero = node.inputs[3:6]
    trans_b = node.integer("transB", 0)
    if node.integer("transA", 0):
        raise node.refusal("transposes its first matrix")
    weight = op.DequantizeLinear(stored, scale, zero, axis=0 if trans_b else 1)
    inside = dy if node.optional(7) is None else _unsaturated(op, node, dy, 8)
    return op.Gemm(inside, weight, transB=1 - trans_b, alpha=node.number("alpha", 1.0))


@gradient("DynamicQuantizeLinear", since=(11,))
def dynamic(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The scale counts as a constant. ConvInteger and MatMulInteger give cotangents per integer, so it divides here."""
    return op.Div(dy, node.forward.outputs[1])


@gradient("ConvInteger", since=(10,))
def integer_conv(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    return convolved_back(
        op, node, dy, _centred(op, node), node.static(node.inputs[1], range(node.rank(node.inputs[1])))
    )


@gradient("MatMulInteger", since=(10,))
def integer_product(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    rank = node.rank(node.inputs[1])
    if rank != 2:
        raise node.refusal("multiplies by a tensor that is not a matrix")
    return op.MatMul(dy, op.swap_last_axes(_centred(op, node), rank))


def _centred(op: Ops, node: BackwardNode) -> Value:
    """The weight minus its zero point, as real numbers."""
    weight, zero = op.Cast(node.inputs[1], to=int(op.dtype)), node.optional(3)
    return op.Sub(weight, op.Cast(zero, to=int(op.dtype))) if zero is not None else weight
