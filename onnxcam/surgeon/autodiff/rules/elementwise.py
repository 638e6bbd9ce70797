"""Gradient rules for elementwise operators, with and without broadcasting, and for CumSum.

Arithmetic (Add, Sub, Mul, Div, Pow, Mean, Max, Min, Where, Mod), activations (Relu, Clip, LeakyRelu, PRelu, Elu,
Sigmoid, HardSwish, Swish, Mish, Gelu, Tanh, ...), functions (Exp, Log, Sqrt, Erf, Sin, ...), Cast, Identity, Dropout.
At corners the derivative is PyTorch's: 0 for Relu at 0 and Clip at its bounds; equal inputs of Max and Min share it.
"""

import math

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value

TYPES = (19, 21, 23, 24, 25, 28)
"""Opsets that only added element types to operators: the rules are the same."""


@gradient("Identity", since=(16, *TYPES))
@gradient("Dropout", since=(13, 22))
def identity(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Dropout is the identity outside training."""
    training = node.array(2)
    if node.op_type == "Dropout" and training is not None and training.any():
        raise node.refusal("draws random numbers")
    return dy


@gradient("Add Sum", since=(13, 14), broadcasts=True)
def add(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return [dy] * len(node.inputs)


@gradient("Sub", since=(14,), broadcasts=True)
def sub(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return dy, op.Neg(dy)


@gradient("Mul", since=(14,), broadcasts=True)
def mul(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    a, b = node.inputs
    return op.Mul(dy, b), op.Mul(dy, a)


@gradient("Div", since=(14,), broadcasts=True)
def div(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    b = node.inputs[1]
    by_b = op.Div(dy, b)
    return by_b, op.Neg(op.Mul(by_b, node.y))


@gradient("Mean", since=(13,), broadcasts=True)
def mean(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    count = len(node.inputs)
    return [op.Mul(dy, op.number(1 / count))] * count


@gradient("Max Min", since=(13,), broadcasts=True)
def extreme(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    if len(node.inputs) == 1:
        return dy
    is_extreme = [op.indicator(op.Equal(x, node.y)) for x in node.inputs]
    share = op.Div(dy, op.Sum(*is_extreme))
    return [op.Mul(share, i) for i in is_extreme]


@gradient("Pow", since=(15,), broadcasts=True)
def power(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    a, b = node.inputs
    exponent = op.Cast(b, to=int(op.dtype))
    lowered = op.Pow(a, op.Sub(exponent, op.number(1)))
    # With exponent 0 the power is the constant 1, also at base 0, where `lowered` is infinite.
    slope = op.Where(op.Equal(exponent, op.number(0)), op.number(0), op.Mul(exponent, lowered))
    by_b = None
    if 1 in node.active:
        positive = op.Greater(a, op.number(0))
        logarithm = op.Where(positive, op.Log(op.Where(positive, a, op.number(1))), op.number(0))
        by_b = op.Mul(dy, op.Mul(node.y, logarithm))
    return op.Mul(dy, slope), by_b


@gradient("Where", since=(16,), broadcasts=True)
def where(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    condition, zero = node.x, op.number(0)
    return None, op.Where(condition, dy, zero), op.Where(condition, zero, dy)


@gradient("PRelu", since=(16,), broadcasts=True)
def prelu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    x, slope = node.inputs
    positive = op.Greater(x, op.number(0))
    return op.Where(positive, dy, op.Mul(dy, slope)), op.Where(positive, op.number(0), op.Mul(dy, x))


@gradient("Mod", since=(13, 28), broadcasts=True)
def mod(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    return dy


@gradient("Cast", since=(13, *TYPES))
@gradient("CastLike", since=(15, *TYPES))
def cast(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """All cotangents have one element type. The driver stops at a Cast to integers, whose gradient is zero."""
    return dy


@gradient("Relu", since=(14,))
def relu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Computed from the output, so that the runtime can still fuse a convolution and its Relu."""
    return op.Mul(dy, op.indicator(op.Greater(node.y, op.number(0))))


@gradient("Clip", since=(13,))
def clip(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    low, high = node.optional(1), node.optional(2)
    inside = [op.Greater(node.y, low)] if low is not None else []
    inside += [op.Less(node.y, high)] if high is not None else []
    if not inside:
        return dy
    return op.Mul(dy, op.indicator(inside[0] if len(inside) == 1 else op.And(*inside)))


@gradient("LeakyRelu", since=(16,))
@gradient("ThresholdedRelu", since=(10, 22))
def leaky_relu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    leaky = node.op_type == "LeakyRelu"
    bound, slope = (0.0, node.number("alpha", 0.01)) if leaky else (node.number("alpha", 1.0), 0.0)
    return op.Where(op.Greater(node.x, op.number(bound)), dy, op.Mul(dy, op.number(slope)))


@gradient("Elu", since=(6, 22))
@gradient("Selu", since=(6, 22))
@gradient("Celu", since=(12, 28))
def elu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = gain * x above 0, gain * alpha * (exp(x / width) - 1) below."""
    kind = node.op_type
    alpha = node.number("alpha", 1.67326319217681884765625 if kind == "Selu" else 1.0)
    gain = node.number("gamma", 1.05070102214813232421875) if kind == "Selu" else 1.0
    width = alpha if kind == "Celu" else 1.0
    below = op.Mul(op.Exp(op.Div(op.Min(node.x, op.number(0)), op.number(width))), op.number(gain * alpha / width))
    return op.Mul(dy, op.Where(op.Greater(node.x, op.number(0)), op.number(gain), below))


@gradient("Sigmoid", since=(13,))
def sigmoid(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Mul(node.y, op.Sub(op.number(1), node.y)))


@gradient("HardSigmoid", since=(6, 22))
def hard_sigmoid(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    inside = op.And(op.Greater(node.y, op.number(0)), op.Less(node.y, op.number(1)))
    return op.Mul(dy, op.Mul(op.indicator(inside), op.number(node.number("alpha", 0.2))))


@gradient("HardSwish", since=(14, 22))
def hard_swish(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The slope is 0 up to -3, 1 from 3 on, and (2 x + 3) / 6 between."""
    x, three = node.x, op.number(3)
    between = op.Add(op.Mul(x, op.number(1 / 3)), op.number(0.5))
    slope = op.Where(op.Less(op.Abs(x), three), between, op.indicator(op.GreaterOrEqual(x, three)))
    return op.Mul(dy, slope)


@gradient("Swish", since=(24,))
def swish(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return swish_gradient(op, node, dy, node.number("alpha", 1.0))


def swish_gradient(op: Ops, node: BackwardNode, dy: Value, alpha: float) -> Value:
    """dy times the slope of y = x s, s = sigmoid(alpha x): s + alpha y (1 - s)."""
    factor = op.number(alpha)
    s = op.Sigmoid(op.Mul(node.x, factor))
    return op.Mul(dy, op.Add(s, op.Mul(factor, op.Mul(node.y, op.Sub(op.number(1), s)))))


@gradient("Mish", since=(18, 22))
def mish(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = x t with t = tanh(softplus(x)): dy/dx = t + x (1 - t^2) sigmoid(x)."""
    t = op.Tanh(op.Softplus(node.x))
    rest = op.Mul(op.Sub(op.number(1), op.Mul(t, t)), op.Sigmoid(node.x))
    return op.Mul(dy, op.Add(t, op.Mul(node.x, rest)))


@gradient("Gelu", since=(20,))
def gelu(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    x = node.x
    if node.text("approximate", "none") == "tanh":
        # y = x (1 + t) / 2 with t = tanh(c (x + k x^3))
        c, k = math.sqrt(2 / math.pi), 0.044715
        square = op.Mul(x, x)
        t = op.Tanh(op.Mul(op.Mul(x, op.number(c)), op.Add(op.number(1), op.Mul(square, op.number(k)))))
        inner = op.Mul(op.number(c), op.Add(op.number(1), op.Mul(square, op.number(3 * k))))
        slope = op.Add(op.Add(op.number(1), t), op.Mul(op.Mul(x, inner), op.Sub(op.number(1), op.Mul(t, t))))
        return op.Mul(dy, op.Mul(slope, op.number(0.5)))
    return op.Mul(dy, gelu_slope(op, x))


def gelu_slope(op: Ops, x: Value) -> Value:
    """y = x P(x): dy/dx = P(x) + x p(x), with the normal distribution P and its density p."""
    distribution = op.Mul(op.Add(op.Erf(op.Mul(x, op.number(math.sqrt(0.5)))), op.number(1)), op.number(0.5))
    density = op.Mul(op.Exp(op.Mul(op.Mul(x, x), op.number(-0.5))), op.number(1 / math.sqrt(2 * math.pi)))
    return op.Add(distribution, op.Mul(x, density))


@gradient("Tanh", since=(13,))
def tanh(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Sub(op.number(1), op.Mul(node.y, node.y)))


@gradient("Erf", since=(13,))
def erf(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    slope = op.Mul(op.Exp(op.Neg(op.Mul(node.x, node.x))), op.number(2 / math.sqrt(math.pi)))
    return op.Mul(dy, slope)


@gradient("Exp", since=(13,))
def exp(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, node.y)


@gradient("Log", since=(13,))
def log(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Div(dy, node.x)


@gradient("Sqrt", since=(13,))
def sqrt(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Div(op.Mul(dy, op.number(0.5)), node.y)


@gradient("Reciprocal", since=(13,))
def reciprocal(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Neg(op.Mul(dy, op.Mul(node.y, node.y)))


@gradient("Neg", since=(13,))
def neg(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Neg(dy)


@gradient("Abs", since=(13,))
def absolute(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Sign(node.x))


@gradient("Softplus", since=(1, 22))
def softplus(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Sigmoid(node.x))


@gradient("Softsign", since=(1, 22))
def softsign(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    below = op.Add(op.Abs(node.x), op.number(1))
    return op.Div(dy, op.Mul(below, below))


@gradient("Shrink", since=(9,))
def shrink(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.indicator(op.Greater(op.Abs(node.x), op.number(node.number("lambd", 0.5)))))


@gradient("Sin Cos Tan Sinh Cosh Asin Acos Atan Asinh Acosh Atanh", since=(7, 9, 22))
def trigonometry(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    x, one = node.x, op.number(1)
    square = op.Mul(x, x)
    slopes = {
        "Sin": lambda: op.Cos(x),
        "Cos": lambda: op.Neg(op.Sin(x)),
        "Tan": lambda: op.Add(one, op.Mul(node.y, node.y)),
        "Sinh": lambda: op.Cosh(x),
        "Cosh": lambda: op.Sinh(x),
        "Asin": lambda: op.Reciprocal(op.Sqrt(op.Sub(one, square))),
        "Acos": lambda: op.Neg(op.Reciprocal(op.Sqrt(op.Sub(one, square)))),
        "Atan": lambda: op.Reciprocal(op.Add(one, square)),
        "Asinh": lambda: op.Reciprocal(op.Sqrt(op.Add(square, one))),
        "Acosh": lambda: op.Reciprocal(op.Sqrt(op.Sub(square, one))),
        "Atanh": lambda: op.Reciprocal(op.Sub(one, square)),
    }
    return op.Mul(dy, slopes[node.op_type]())


@gradient("CumSum", since=(14,))
def cumulative_sum(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The cotangent is a cumulative sum in the opposite direction."""
    node.only(0)
    axis = op.build.constant(np.asarray(node.array(1)).reshape(()), np.int64)
    reverse = 1 - node.integer("reverse", 0)
    return op.CumSum(dy, axis, exclusive=node.integer("exclusive", 0), reverse=reverse)
