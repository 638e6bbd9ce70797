"""Operators that work on each number alone: arithmetic, comparisons, activations, casts."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from onnx_torch.registry import Node, Value, operator
from onnx_torch.values import FLOATS, INTEGERS, as_tensor, folded

ELEMENTWISE: Mapping[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Add": torch.add, "And": torch.logical_and,
    "Asin": torch.asin, "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "IsNaN": torch.isnan, "Less": torch.lt, "LessOrEqual": torch.le,
    "Log": torch.log, "MatMul": torch.matmul, "Max": torch.maximum, "Min": torch.minimum, "Mul": torch.mul,
    "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or, "Reciprocal": torch.reciprocal,
    "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Sinh": torch.sinh, "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Sub": torch.sub, "Sum": torch.add,
    "Tan": torch.tan, "Tanh": torch.tanh, "Where": torch.where, "Xor": torch.logical_xor,
}  # fmt: skip


@operator(*ELEMENTWISE)
def elementwise(node: Node, *operands: Tensor) -> Tensor:
    """Max, Min and Sum take any number of operands."""
    function = ELEMENTWISE[node.op_type]
    return folded(function, operands) if node.op_type in ("Max", "Min", "Sum") else function(*operands)


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@operator("Mean")
def mean(node: Node, *parts: Tensor) -> Tensor:
    return folded(torch.add, parts) / len(parts)


@operator("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    integers = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if integers else None)


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Pow", host=(1,))
def power(node: Node, x: Tensor, exponent: Value) -> Tensor:
    if isinstance(exponent, Tensor):
        return torch.pow(x, exponent)
    if exponent.size == 1 and exponent.ndim <= x.ndim:  # a number is differentiated without a logarithm
        return torch.pow(x, exponent.item()).reshape(x.shape)
    return torch.pow(x, as_tensor(exponent, node.dtype, x.device))


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    to = node.get("to")
    if to in FLOATS:
        return x.to(node.dtype)
    if to not in INTEGERS:
        raise node.unknown(f"element type {to}")
    return x.to(INTEGERS[to])


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@operator("Clip", host=(1, 2))
def clip(node: Node, x: Tensor, low: Value | None = None, high: Value | None = None) -> Tensor:
    lowest = node.get("min") if low is None else _number(low)
    highest = node.get("max") if high is None else _number(high)
    return _clipped(x, lowest, highest)


def _number(value: Value) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value


def _clipped(x: Tensor, low: Any, high: Any) -> Tensor:
    """The gradient passes strictly between the bounds only; torch.clamp would let it pass at the bounds too."""
    if low is None and high is None:
        return x
    if isinstance(low, float) and isinstance(high, float) and low <= high and x.is_floating_point():
        return functional.hardtanh(x, low, high)
    clipped = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    if high is not None:
        clipped = torch.minimum(clipped, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    inside = torch.ones_like(x, dtype=torch.bool)
    inside = inside if low is None else inside & (x > low)
    inside = inside if high is None else inside & (x < high)
    return torch.where(inside, x, clipped.detach())


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return _clipped(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0)


@operator("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return x * _clipped(x / 6 + 0.5, 0.0, 1.0)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.get("alpha", 0.01))


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return functional.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    return node.get("gamma", 1.05070102214813232421875) * functional.elu(
        x, node.get("alpha", 1.67326319217681884765625)
    )


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return functional.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    return functional.softplus(x, threshold=40)  # beyond, log(1 + exp(x)) is x to the last bit


@operator("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return x * torch.tanh(softplus(node, x))


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.get("approximate", "none"))


@operator("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    bias, bound = node.get("bias", 0.0), node.get("lambd", 0.5)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, torch.zeros_like(x)))


@operator("IsInf")
def is_inf(node: Node, x: Tensor) -> Tensor:
    positive = (x == math.inf) & bool(node.get("detect_positive", 1))
    return positive | ((x == -math.inf) & bool(node.get("detect_negative", 1)))


@operator("Dropout", host=(1, 2))
def dropout(node: Node, x: Tensor, ratio: Value | None = None, training: Value | None = None) -> tuple[Tensor, ...]:
    if training is not None and (isinstance(training, Tensor) or training.item()):
        raise node.unknown("training_mode")
    return x, torch.ones_like(x, dtype=torch.bool)
