"""Quantisation, straight through: rounding counts as the identity (Bengio et al. 2013, arXiv:1308.3432)."""

import numpy as np

from onnxcam.surgeon.graph import Value
from onnxcam.surgeon.rules.elementwise import TYPES
from onnxcam.surgeon.rules.registry import Cotangents, Ops, Step, gradient


@gradient("DequantizeLinear", since=(10, 13, *TYPES))
def dequantise(op: Ops, step: Step, dy: Value) -> Cotangents:
    """What lies between quantising and its undoing is counted in real units, so that the scale enters neither."""
    step.only(0)
    return dy


@gradient("QuantizeLinear", since=(10, 13, *TYPES))
def quantise(op: Ops, step: Step, dy: Value) -> Cotangents:
    """Nothing flows where the integers saturate: quantisers do away with a Relu whose bounds the integers have."""
    step.only(0)
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
