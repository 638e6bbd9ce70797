"""Normalisations."""

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("BatchNormalization", since=(15,))
def batch_norm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """With stored statistics it is one factor a channel."""
    step.only(0)
    if step.integer("training_mode", 0):
        raise step.refusal("normalises over the batch (it was exported in training mode)")
    scale, variance = step.inputs[1], step.inputs[4]
    factor = op.Div(scale, op.Sqrt(op.Add(variance, op.number(step.number("epsilon", 1e-5)))))
    return op.Mul(dy, op.reshape(factor, [1, -1, *[1] * (step.rank(step.x) - 2)]))


@gradient("LayerNormalization", since=(17,))
def layer_norm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """With z = (x - mean) / deviation and g = dy * scale: (g - mean(g) - z mean(g z)) / deviation.

    The operator can hand out its mean and the inverse of its deviation.
    """
    step.only(0)
    rank = step.rank(step.x)
    axes = list(range(step.integer("axis", -1) % rank, rank))
    mean, inverse = (op.Cast(step.further_output(i), to=int(op.dtype)) for i in (1, 2))
    g, z = op.Mul(dy, step.inputs[1]), op.Mul(op.Sub(step.x, mean), inverse)
    return op.Mul(op.Sub(op.Sub(g, op.mean(g, axes)), op.Mul(z, op.mean(op.Mul(g, z), axes))), inverse)


@gradient("InstanceNormalization", since=(6, 22))
def instance_norm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    rank = step.rank(step.x)
    axes = list(range(2, rank))
    scale = op.reshape(step.inputs[1], [1, -1, *[1] * (rank - 2)])
    centred = op.Sub(step.x, op.mean(step.x, axes))
    return _normalised(op, step, op.Mul(dy, scale), centred, op.mean(op.Mul(centred, centred), axes), axes)


@gradient("GroupNormalization", since=(18, 21))
def group_norm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Until opset 20 the scale is one number a group, later one a channel."""
    step.only(0)
    groups, (channels,) = step.integer("num_groups", 1), step.static(step.x, [1])
    rank = step.rank(step.x)
    per_group = step.since < 21
    scale = op.reshape(step.inputs[1], [1, groups, 1 if per_group else channels // groups, *[1] * (rank - 2)])
    split = op.integers([0, groups, channels // groups, *step.static(step.x, range(2, rank))])
    x, g = op.Reshape(step.x, split), op.Mul(op.Reshape(dy, split), scale)
    axes = list(range(2, rank + 1))
    centred = op.Sub(x, op.mean(x, axes))
    back = _normalised(op, step, g, centred, op.mean(op.Mul(centred, centred), axes), axes)
    return op.Reshape(back, op.Shape(step.x))


def _normalised(op: Ops, step: BackwardNode, g: Value, centred: Value, variance: Value, axes: list[int]) -> Value:
    deviation = op.Sqrt(op.Add(variance, op.number(step.number("epsilon", 1e-5))))
    z = op.Div(centred, deviation)
    along = op.Mul(z, op.mean(op.Mul(g, z), axes))
    return op.Div(op.Sub(op.Sub(g, op.mean(g, axes)), along), deviation)


@gradient("RMSNormalization", since=(23,))
def rms_norm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """With z = x / r, r the root of the mean square, and g = dy * scale: (g - z mean(g z)) / r."""
    step.only(0)
    rank = step.rank(step.x)
    axes = list(range(step.integer("axis", -1) % rank, rank))
    square = op.mean(op.Mul(step.x, step.x), axes)
    root = op.Sqrt(op.Add(square, op.number(step.number("epsilon", 1e-5))))
    g, z = op.Mul(dy, step.inputs[1]), op.Div(step.x, root)
    return op.Div(op.Sub(g, op.Mul(z, op.mean(op.Mul(g, z), axes))), root)


@gradient("LpNormalization", since=(1, 22))
def lp_norm(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """y = x / |x|: p = 2: (dy - y sum(dy y)) / |x|; p = 1: (dy - sign(x) sum(dy y)) / |x|. 0 where x is."""
    axis = [step.integer("axis", -1)]
    along = op.sum(op.Mul(dy, step.y), axis)
    if step.integer("p", 2) == 1:
        length, direction = op.sum(op.Abs(step.x), axis), op.Sign(step.x)
    else:
        length, direction = op.Sqrt(op.sum(op.Mul(step.x, step.x), axis)), step.y
    slope = op.Div(op.Sub(dy, op.Mul(direction, along)), length)
    return op.Where(op.Equal(length, op.number(0)), op.number(0), slope)


@gradient("LRN", since=(13,))
def local_response(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """y = x s^-beta, s = bias + alpha / size * (sum of x^2 over a window of channels).

    dx = dy s^-beta - 2 alpha beta / size * x * (sum over the mirrored window of dy x s^(-beta - 1)).
    """
    size, (channels,) = step.integer("size", 1), step.static(step.x, [1])
    alpha, beta = step.number("alpha", 1e-4), step.number("beta", 0.75)
    distance = np.arange(channels)[None] - np.arange(channels)[:, None]
    window = (distance >= -((size - 1) // 2)) & (distance <= -(-(size - 1) // 2))
    rank = step.rank(step.x)

    def windowed(x: Value, matrix: npt.NDArray[np.bool_]) -> Value:
        kernel = op.number(matrix.reshape(channels, channels, *[1] * (rank - 2)))
        return op.Conv(x, kernel)

    s = op.Add(
        op.Mul(windowed(op.Mul(step.x, step.x), window), op.number(alpha / size)), op.number(step.number("bias", 1.0))
    )
    power = op.Pow(s, op.number(-beta))
    inner = op.Mul(op.Mul(dy, step.x), op.Div(power, s))
    pulled = op.Mul(op.Mul(step.x, windowed(inner, window.T)), op.number(2 * alpha * beta / size))
    return op.Sub(op.Mul(dy, power), pulled)
