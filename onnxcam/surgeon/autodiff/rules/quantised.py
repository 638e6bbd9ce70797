"""Quantisation, straight through: rounding counts as the identity (Bengio et al. 2013, arXiv:1308.3432)."""

import numpy as np

from onnxcam.surgeon.autodiff.rules.conv import convolved_back
from onnxcam.surgeon.autodiff.rules.elementwise import TYPES
from onnxcam.surgeon.autodiff.rules.pool import global_average
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("DequantizeLinear", since=(10, 13, *TYPES))
def dequantise(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """What lies between quantising and its undoing is counted in real units, so that the scale enters neither."""
    step.only(0)
    return dy


@gradient("QuantizeLinear", since=(10, 13, *TYPES))
def quantise(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Nothing flows where the integers saturate: quantisers do away with a Relu whose bounds the integers have."""
    step.only(0)
    if _ends_in_the_score(step.y):
        return dy
    scale, zero, kind = np.asarray(step.array(1), np.float64), step.array(2), step.quantised_dtype()
    if kind.kind not in "iu":
        raise step.refusal(f"quantises to {kind}")
    limits = np.iinfo(kind.name)
    shift = np.zeros_like(scale) if zero is None else np.asarray(zero, np.float64)
    rank = step.rank(step.x)
    if scale.ndim > 1:
        raise step.refusal("quantises in blocks")
    shape = [-1 if i == step.integer("axis", 1) % rank else 1 for i in range(rank)] if scale.size > 1 else []
    low, high = (op.number(((limit - shift) * scale).reshape(shape)) for limit in (limits.min, limits.max))
    inside = op.And(op.Greater(step.x, low), op.Less(step.x, high))
    return op.Mul(dy, op.real(inside))


def _ends_in_the_score(quantised: Value) -> bool:
    """Whether nothing but the scoring fragment reads what is undone of it: a logit at its ceiling still has a slope."""
    undone = [u.node for u in quantised.uses() if not str(u.node.outputs[0].name).startswith(OWN)]
    readers = [u.node for n in undone for v in n.outputs for u in v.uses()]
    return (
        bool(undone)
        and all(n.op_type == "DequantizeLinear" for n in undone)
        and all(str(n.outputs[0].name).startswith(OWN) for n in readers)
    )


MICROSOFT = "com.microsoft"
OWN = "onnxcam/"
"""Begins the names of what onnxcam adds to a graph."""


def _unsaturated(op: Ops, step: BackwardNode, dy: Value, at: int) -> Value:
    """dy where the integers of the output are inside their range; `at` stands the output's zero point."""
    if _ends_in_the_score(step.y):
        return dy
    zero = step.array(at)
    limits = np.iinfo((zero.dtype if zero is not None else np.dtype(np.uint8)).name)
    real = op.Cast(step.y, to=int(op.dtype))
    inside = op.And(op.Greater(real, op.number(limits.min)), op.Less(real, op.number(limits.max)))
    return op.Mul(dy, op.real(inside))


@gradient("QLinearConv", since=(10,))
def quantised_conv(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Inputs: x, its scale and zero point, the weight with its own, the output's, the bias."""
    step.only(0)
    stored, scale, zero = step.inputs[3:6]
    weight = op.DequantizeLinear(stored, scale, zero, axis=0)
    shape = step.static(stored, range(step.rank(stored)))
    return convolved_back(op, step, _unsaturated(op, step, dy, 7), weight, shape)


@gradient("QLinearAdd", since=(0,), domain=MICROSOFT)
def quantised_add(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Inputs: a, its scale and zero point, b with its own, the output's."""
    given = _unsaturated(op, step, dy, 7)
    result = step.dims(step.y)
    a, b = (op.sum_to(given, result, step.dims(step.inputs[i])) for i in (0, 3))
    return a, None, None, b


@gradient("QLinearGlobalAveragePool", since=(0,), domain=MICROSOFT)
def quantised_average(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    if step.integer("channels_last", 0):
        raise step.refusal("has its channels last")
    return global_average(op, step, _unsaturated(op, step, dy, 4))


@gradient("QGemm", since=(0,), domain=MICROSOFT)
def quantised_gemm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Inputs: a, its scale and zero point, b with its own, the bias, and where the output is quantised, its own."""
    step.only(0)
    stored, scale, zero = step.inputs[3:6]
    turned = step.integer("transB", 0)
    if step.integer("transA", 0):
        raise step.refusal("turns its first matrix")
    weight = op.DequantizeLinear(stored, scale, zero, axis=0 if turned else 1)
    given = dy if step.optional(7) is None else _unsaturated(op, step, dy, 8)
    return op.Gemm(given, weight, transB=1 - turned, alpha=step.number("alpha", 1.0))


@gradient("DynamicQuantizeLinear", since=(11,))
def dynamic(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """The scale counts as a constant. ConvInteger and MatMulInteger count in integers, so it enters here."""
    return op.Div(dy, step.node.outputs[1])


@gradient("ConvInteger", since=(10,))
def integer_conv(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    return convolved_back(
        op, step, dy, _centred(op, step), step.static(step.inputs[1], range(step.rank(step.inputs[1])))
    )


@gradient("MatMulInteger", since=(10,))
def integer_product(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    rank = step.rank(step.inputs[1])
    if rank != 2:
        raise step.refusal("multiplies by something else than one matrix")
    return op.MatMul(dy, op.swapped(_centred(op, step), rank))


def _centred(op: Ops, step: BackwardNode) -> Value:
    """The weight without its zero point, as real numbers."""
    weight, zero = op.Cast(step.inputs[1], to=int(op.dtype)), step.optional(3)
    return op.Sub(weight, op.Cast(zero, to=int(op.dtype))) if zero is not None else weight
