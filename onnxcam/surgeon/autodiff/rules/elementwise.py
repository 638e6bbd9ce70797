"""Operators that compute each entry by itself, with or without broadcasting.

Derivatives at a corner follow PyTorch: 0 at the corner of Relu and at both bounds of Clip, halves where Max or Min tie.
"""

import math

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value

TYPES = (19, 21, 23, 24, 25, 28)
"""Opsets that gave operators new element types and nothing else."""


@gradient("Identity", since=(16, *TYPES))
@gradient("Dropout", since=(13, 22))
def identity(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Dropout passes everything on when it is not training."""
    training = step.array(2)
    if step.node.op_type == "Dropout" and training is not None and training.any():
        raise step.refusal("draws random numbers")
    return dy


@gradient("Add Sum", since=(13, 14), broadcasts=True)
def add(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return [dy] * len(step.inputs)


@gradient("Sub", since=(14,), broadcasts=True)
def sub(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return dy, op.Neg(dy)


@gradient("Mul", since=(14,), broadcasts=True)
def mul(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    a, b = step.inputs
    return op.Mul(dy, b), op.Mul(dy, a)


@gradient("Div", since=(14,), broadcasts=True)
def div(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    b = step.inputs[1]
    by_b = op.Div(dy, b)
    return by_b, op.Neg(op.Mul(by_b, step.y))


@gradient("Mean", since=(13,), broadcasts=True)
def mean(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    count = len(step.inputs)
    return [op.Mul(dy, op.number(1 / count))] * count


@gradient("Max Min", since=(13,), broadcasts=True)
def extreme(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    if len(step.inputs) == 1:
        return dy
    chosen = [op.real(op.Equal(x, step.y)) for x in step.inputs]
    share = op.Div(dy, op.Sum(*chosen))
    return [op.Mul(share, c) for c in chosen]


@gradient("Pow", since=(15,), broadcasts=True)
def power(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    a, b = step.inputs
    exponent = op.Cast(b, to=int(op.dtype))
    less = op.Pow(a, op.Sub(exponent, op.number(1)))
    # Where the exponent is 0 the power is 1 whatever the base, 0 ** -1 included.
    slope = op.Where(op.Equal(exponent, op.number(0)), op.number(0), op.Mul(exponent, less))
    by_b = None
    if 1 in step.active:
        positive = op.Greater(a, op.number(0))
        logarithm = op.Where(positive, op.Log(op.Where(positive, a, op.number(1))), op.number(0))
        by_b = op.Mul(dy, op.Mul(step.y, logarithm))
    return op.Mul(dy, slope), by_b


@gradient("Where", since=(16,), broadcasts=True)
def where(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    condition, zero = step.x, op.number(0)
    return None, op.Where(condition, dy, zero), op.Where(condition, zero, dy)


@gradient("PRelu", since=(16,), broadcasts=True)
def prelu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    x, slope = step.inputs
    positive = op.Greater(x, op.number(0))
    return op.Where(positive, dy, op.Mul(dy, slope)), op.Where(positive, op.number(0), op.Mul(dy, x))


@gradient("Mod", since=(13, 28), broadcasts=True)
def mod(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    return dy


@gradient("Cast", since=(13, *TYPES))
@gradient("CastLike", since=(15, *TYPES))
def cast(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """What flows back is of one type, whatever the tensors are; the driver stops where a cast leaves the reals."""
    return dy


@gradient("Relu", since=(14,))
def relu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """From the output, so that a convolution and its activation still fuse."""
    return op.Mul(dy, op.real(op.Greater(step.y, op.number(0))))


@gradient("Clip", since=(13,))
def clip(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    low, high = step.optional(1), step.optional(2)
    inside = [op.Greater(step.y, low)] if low is not None else []
    inside += [op.Less(step.y, high)] if high is not None else []
    if not inside:
        return dy
    return op.Mul(dy, op.real(inside[0] if len(inside) == 1 else op.And(*inside)))


@gradient("LeakyRelu", since=(16,))
@gradient("ThresholdedRelu", since=(10, 22))
def leaky_relu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    leaky = step.node.op_type == "LeakyRelu"
    bound, slope = (0.0, step.number("alpha", 0.01)) if leaky else (step.number("alpha", 1.0), 0.0)
    return op.Where(op.Greater(step.x, op.number(bound)), dy, op.Mul(dy, op.number(slope)))


@gradient("Elu", since=(6, 22))
@gradient("Selu", since=(6, 22))
@gradient("Celu", since=(12, 28))
def elu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """gain * x above 0, gain * alpha * (exp(x / width) - 1) below."""
    kind = step.node.op_type
    alpha = step.number("alpha", 1.67326319217681884765625 if kind == "Selu" else 1.0)
    gain = step.number("gamma", 1.05070102214813232421875) if kind == "Selu" else 1.0
    width = alpha if kind == "Celu" else 1.0
    below = op.Mul(op.Exp(op.Div(op.Min(step.x, op.number(0)), op.number(width))), op.number(gain * alpha / width))
    return op.Mul(dy, op.Where(op.Greater(step.x, op.number(0)), op.number(gain), below))


@gradient("Sigmoid", since=(13,))
def sigmoid(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Mul(step.y, op.Sub(op.number(1), step.y)))


@gradient("HardSigmoid", since=(6, 22))
def hard_sigmoid(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    inside = op.And(op.Greater(step.y, op.number(0)), op.Less(step.y, op.number(1)))
    return op.Mul(dy, op.Mul(op.real(inside), op.number(step.number("alpha", 0.2))))


@gradient("HardSwish", since=(14, 22))
def hard_swish(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """0 up to -3, 1 from 3 on, (2 x + 3) / 6 between."""
    x, three = step.x, op.number(3)
    between = op.Add(op.Mul(x, op.number(1 / 3)), op.number(0.5))
    slope = op.Where(op.Less(op.Abs(x), three), between, op.real(op.GreaterOrEqual(x, three)))
    return op.Mul(dy, slope)


@gradient("Swish", since=(24,))
def swish(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return through_swish(op, step, dy, step.number("alpha", 1.0))


def through_swish(op: Ops, step: BackwardNode, dy: Value, alpha: float) -> Value:
    """y = x s with s = sigmoid(alpha x): dy/dx = s + alpha y (1 - s)."""
    factor = op.number(alpha)
    s = op.Sigmoid(op.Mul(step.x, factor))
    return op.Mul(dy, op.Add(s, op.Mul(factor, op.Mul(step.y, op.Sub(op.number(1), s)))))


@gradient("Mish", since=(18, 22))
def mish(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """y = x t with t = tanh(softplus(x)): dy/dx = t + x (1 - t^2) sigmoid(x)."""
    t = op.Tanh(op.Softplus(step.x))
    rest = op.Mul(op.Sub(op.number(1), op.Mul(t, t)), op.Sigmoid(step.x))
    return op.Mul(dy, op.Add(t, op.Mul(step.x, rest)))


@gradient("Gelu", since=(20,))
def gelu(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    x = step.x
    if step.text("approximate", "none") == "tanh":
        # y = x (1 + t) / 2 with t = tanh(c (x + k x^3))
        c, k = math.sqrt(2 / math.pi), 0.044715
        square = op.Mul(x, x)
        t = op.Tanh(op.Mul(op.Mul(x, op.number(c)), op.Add(op.number(1), op.Mul(square, op.number(k)))))
        inner = op.Mul(op.number(c), op.Add(op.number(1), op.Mul(square, op.number(3 * k))))
        slope = op.Add(op.Add(op.number(1), t), op.Mul(op.Mul(x, inner), op.Sub(op.number(1), op.Mul(t, t))))
        return op.Mul(dy, op.Mul(slope, op.number(0.5)))
    return op.Mul(dy, slope_of_gelu(op, x))


def slope_of_gelu(op: Ops, x: Value) -> Value:
    """y = x P(x): dy/dx = P(x) + x p(x), with the normal distribution P and its density p."""
    distribution = op.Mul(op.Add(op.Erf(op.Mul(x, op.number(math.sqrt(0.5)))), op.number(1)), op.number(0.5))
    density = op.Mul(op.Exp(op.Mul(op.Mul(x, x), op.number(-0.5))), op.number(1 / math.sqrt(2 * math.pi)))
    return op.Add(distribution, op.Mul(x, density))


@gradient("Tanh", since=(13,))
def tanh(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Sub(op.number(1), op.Mul(step.y, step.y)))


@gradient("Erf", since=(13,))
def erf(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    slope = op.Mul(op.Exp(op.Neg(op.Mul(step.x, step.x))), op.number(2 / math.sqrt(math.pi)))
    return op.Mul(dy, slope)


@gradient("Exp", since=(13,))
def exp(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, step.y)


@gradient("Log", since=(13,))
def log(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Div(dy, step.x)


@gradient("Sqrt", since=(13,))
def sqrt(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Div(op.Mul(dy, op.number(0.5)), step.y)


@gradient("Reciprocal", since=(13,))
def reciprocal(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Neg(op.Mul(dy, op.Mul(step.y, step.y)))


@gradient("Neg", since=(13,))
def neg(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Neg(dy)


@gradient("Abs", since=(13,))
def absolute(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Sign(step.x))


@gradient("Softplus", since=(1, 22))
def softplus(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.Sigmoid(step.x))


@gradient("Softsign", since=(1, 22))
def softsign(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    below = op.Add(op.Abs(step.x), op.number(1))
    return op.Div(dy, op.Mul(below, below))


@gradient("Shrink", since=(9,))
def shrink(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    return op.Mul(dy, op.real(op.Greater(op.Abs(step.x), op.number(step.number("lambd", 0.5)))))


@gradient("Sin Cos Tan Sinh Cosh Asin Acos Atan Asinh Acosh Atanh", since=(7, 9, 22))
def trigonometry(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    x, one = step.x, op.number(1)
    square = op.Mul(x, x)
    slopes = {
        "Sin": lambda: op.Cos(x),
        "Cos": lambda: op.Neg(op.Sin(x)),
        "Tan": lambda: op.Add(one, op.Mul(step.y, step.y)),
        "Sinh": lambda: op.Cosh(x),
        "Cosh": lambda: op.Sinh(x),
        "Asin": lambda: op.Reciprocal(op.Sqrt(op.Sub(one, square))),
        "Acos": lambda: op.Neg(op.Reciprocal(op.Sqrt(op.Sub(one, square)))),
        "Atan": lambda: op.Reciprocal(op.Add(one, square)),
        "Asinh": lambda: op.Reciprocal(op.Sqrt(op.Add(square, one))),
        "Acosh": lambda: op.Reciprocal(op.Sqrt(op.Sub(square, one))),
        "Atanh": lambda: op.Reciprocal(op.Sub(one, square)),
    }
    return op.Mul(dy, slopes[step.node.op_type]())


@gradient("CumSum", since=(14,))
def cumulative_sum(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """The sums run the other way."""
    step.only(0)
    axis = op.build.constant(np.asarray(step.array(1)).reshape(()), np.int64)
    turned = 1 - step.integer("reverse", 0)
    return op.CumSum(dy, axis, exclusive=step.integer("exclusive", 0), reverse=turned)
