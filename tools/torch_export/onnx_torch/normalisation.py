"""Normalisations: of batches, layers, instances, groups and across channels."""

import torch
from torch import Tensor
from torch.nn import functional

from onnx_torch.registry import Node, operator
from onnx_torch.values import folded


def _per_channel(weights: Tensor, rank: int) -> Tensor:
    """(C,) as (C,1,1,...) for a tensor of this rank."""
    return weights.reshape([-1, *[1] * (rank - 2)])


@operator("BatchNormalization")
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    if node.get("training_mode", 0) or not node.get("spatial", 1):
        raise node.unknown("training_mode or spatial=0")
    factor = scale / torch.sqrt(spread + node.get("epsilon", 1e-5))
    return x * _per_channel(factor, x.ndim) + _per_channel(bias - center * factor, x.ndim)


def _standardised(node: Node, x: Tensor, axes: list[int], epsilon: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """((x - mean) / deviation, mean, 1 / deviation)."""
    center = x.mean(axes, True)
    inverse = torch.rsqrt((x - center).square().mean(axes, True) + node.get("epsilon", epsilon))
    return (x - center) * inverse, center, inverse


@operator("LayerNormalization")
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", -1)
    y, center, inverse = _standardised(node, x, list(range(axis % x.ndim, x.ndim)))
    return (y * scale if bias is None else y * scale + bias), center, inverse


@operator("RMSNormalization")
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(node.get("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, True) + node.get("epsilon", 1e-5)) * scale


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    y, _, _ = _standardised(node, x, list(range(2, x.ndim)))
    return y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)


@operator("GroupNormalization")
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 scale and bias have one number a group."""
    groups, channels = node.get("num_groups"), x.shape[1]
    y, _, _ = _standardised(node, x.reshape(x.shape[0], groups, -1), [2])
    if scale.numel() != channels:
        scale, bias = (w.repeat_interleave(channels // groups) for w in (scale, bias))
    return y.reshape(x.shape) * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    axes = node.get("axes") or [0, 2, 3]
    centred = x - x.mean(axes, True)
    return centred / (centred.square().mean(axes, True).sqrt() + 1e-9)


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", -1)
    length = x.abs().sum(axis, True) if node.get("p", 2) == 1 else x.square().sum(axis, True).sqrt()
    return x / torch.where(length > 0, length, torch.ones_like(length))


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    width, channels = node.get("size"), x.shape[1]
    before = (width - 1) // 2
    square = functional.pad(x.square(), [*[0, 0] * (x.ndim - 2), before, width - 1 - before])
    total = folded(torch.add, [square[:, i : i + channels] for i in range(width)])
    return x / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / width * total) ** node.get("beta", 0.75)
