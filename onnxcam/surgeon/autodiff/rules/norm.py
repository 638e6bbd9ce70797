"""Gradient rules for normalisations, by the input only (scale and bias are weights).

BatchNormalization, LayerNormalization, InstanceNormalization, GroupNormalization, RMSNormalization, LpNormalization,
LRN.
"""

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.ir import Value


@gradient("BatchNormalization", since=(15,))
def batch_norm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """With stored statistics the gradient is one factor per channel."""
    node.only(0)
    if node.integer("training_mode", 0):
        raise node.refusal("normalises over the batch (it was exported in training mode)")
    scale, variance = node.inputs[1], node.inputs[4]
    factor = op.Div(scale, op.Sqrt(op.Add(variance, op.number(node.number("epsilon", 1e-5)))))
    return op.Mul(dy, op.reshape(factor, [1, -1, *[1] * (node.rank(node.x) - 2)]))


@gradient("LayerNormalization", since=(17,))
def layer_norm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """With z = (x - mean) / deviation and g = dy * scale: (g - mean(g) - z mean(g z)) / deviation.

    The mean and the inverse deviation are optional outputs of the operator.
    """
    node.only(0)
    rank = node.rank(node.x)
    axes = list(range(node.integer("axis", -1) % rank, rank))
    mean, inverse = (op.Cast(node.extra_output(i), to=int(op.dtype)) for i in (1, 2))
    g, z = op.Mul(dy, node.inputs[1]), op.Mul(op.Sub(node.x, mean), inverse)
    return op.Mul(op.Sub(op.Sub(g, op.mean(g, axes)), op.Mul(z, op.mean(op.Mul(g, z), axes))), inverse)


@gradient("InstanceNormalization", since=(6, 22))
def instance_norm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    rank = node.rank(node.x)
    axes = list(range(2, rank))
    scale = op.reshape(node.inputs[1], [1, -1, *[1] * (rank - 2)])
    centred = op.Sub(node.x, op.mean(node.x, axes))
    return _normalised(op, node, op.Mul(dy, scale), centred, op.mean(op.Mul(centred, centred), axes), axes)


@gradient("GroupNormalization", since=(18, 21))
def group_norm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The scale is one number per group up to opset 20, and one per channel from opset 21 on."""
    node.only(0)
    groups, (channels,) = node.integer("num_groups", 1), node.static(node.x, [1])
    rank = node.rank(node.x)
    per_group = node.since < 21
    scale = op.reshape(node.inputs[1], [1, groups, 1 if per_group else channels // groups, *[1] * (rank - 2)])
    split = op.integers([0, groups, channels // groups, *node.static(node.x, range(2, rank))])
    x, g = op.Reshape(node.x, split), op.Mul(op.Reshape(dy, split), scale)
    axes = list(range(2, rank + 1))
    centred = op.Sub(x, op.mean(x, axes))
    back = _normalised(op, node, g, centred, op.mean(op.Mul(centred, centred), axes), axes)
    return op.Reshape(back, op.Shape(node.x))


def _normalised(op: Ops, node: BackwardNode, g: Value, centred: Value, variance: Value, axes: list[int]) -> Value:
    """(g - mean(g) - z mean(g z)) / deviation, with z = centred / deviation and means over the axes."""
    deviation = op.Sqrt(op.Add(variance, op.number(node.number("epsilon", 1e-5))))
    z = op.Div(centred, deviation)
    along = op.Mul(z, op.mean(op.Mul(g, z), axes))
    return op.Div(op.Sub(op.Sub(g, op.mean(g, axes)), along), deviation)


@gradient("RMSNormalization", since=(23,))
def rms_norm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """With z = x / r, r the root of the mean square, and g = dy * scale: (g - z mean(g z)) / r."""
    node.only(0)
    rank = node.rank(node.x)
    axes = list(range(node.integer("axis", -1) % rank, rank))
    square = op.mean(op.Mul(node.x, node.x), axes)
    root = op.Sqrt(op.Add(square, op.number(node.number("epsilon", 1e-5))))
    g, z = op.Mul(dy, node.inputs[1]), op.Div(node.x, root)
    return op.Div(op.Sub(g, op.Mul(z, op.mean(op.Mul(g, z), axes))), root)


@gradient("LpNormalization", since=(1, 22))
def lp_norm(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = x / |x|. dx = (dy - d sum(dy y)) / |x|, with d = y for p = 2 and d = sign(x) for p = 1; 0 where |x| is 0."""
    axis = [node.integer("axis", -1)]
    along = op.sum(op.Mul(dy, node.y), axis)
    if node.integer("p", 2) == 1:
        length, direction = op.sum(op.Abs(node.x), axis), op.Sign(node.x)
    else:
        length, direction = op.Sqrt(op.sum(op.Mul(node.x, node.x), axis)), node.y
    slope = op.Div(op.Sub(dy, op.Mul(direction, along)), length)
    return op.Where(op.Equal(length, op.number(0)), op.number(0), slope)


@gradient("LRN", since=(13,))
def local_response(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = x s^-beta, s = bias + alpha / size * (sum of x^2 over a window of channels).

    dx = dy s^-beta - 2 alpha beta / size * x * (sum over the mirrored window of dy x s^(-beta - 1)).
    """
    size, (channels,) = node.integer("size", 1), node.static(node.x, [1])
    alpha, beta = node.number("alpha", 1e-4), node.number("beta", 0.75)
    distance = np.arange(channels)[None] - np.arange(channels)[:, None]
    window = (distance >= -((size - 1) // 2)) & (distance <= -(-(size - 1) // 2))
    rank = node.rank(node.x)

    def windowed(x: Value, matrix: npt.NDArray[np.bool_]) -> Value:
        kernel = op.number(matrix.reshape(channels, channels, *[1] * (rank - 2)))
        return op.Conv(x, kernel)

    s = op.Add(
        op.Mul(windowed(op.Mul(node.x, node.x), window), op.number(alpha / size)), op.number(node.number("bias", 1.0))
    )
    power = op.Pow(s, op.number(-beta))
    inner = op.Mul(op.Mul(dy, node.x), op.Div(power, s))
    pulled = op.Mul(op.Mul(node.x, windowed(inner, window.T)), op.number(2 * alpha * beta / size))
    return op.Sub(op.Mul(dy, power), pulled)
