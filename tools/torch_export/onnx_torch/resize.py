"""Resize and Upsample. Every mode is one matrix per axis."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from onnx_torch.registry import Array, Node, Value, operator
from onnx_torch.values import along, integers


@operator("Upsample", "Resize", host=(1, 2, 3))
def resize(node: Node, x: Tensor, *operands: Value | None) -> Tensor:
    """Upsample and Resize-10 have the scales as input 1, where Resize-11 has the region."""
    old = node.op_type == "Upsample" or node.opset < 11
    scales, sizes = (*operands, None)[:2] if old else (*operands[1:], None, None)[:2]
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unknown("keep_aspect_ratio_policy")
    axes = node.get("axes") or list(range(x.ndim))
    targets = integers(node, sizes) if sizes is not None and not old else None
    factors = (node.get("scales") if scales is None else integers(node, scales)) or []
    for i, axis in enumerate(axes):
        side = x.shape[axis]
        target = targets[i] if targets else math.floor(side * factors[i]) if factors[i] != 1 else side
        if target is side or target == side:
            continue
        scale = factors[i] if factors and not targets else target / side
        x = along(x.to(node.dtype), axis, _resize_matrix(node, side, target, scale, old))
    return x


def _resize_matrix(node: Node, source: int, target: int, scale: float, old: bool) -> Array:
    """(target, source) weights of the interpolation, after the specification of Resize."""
    how = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    at, mode = _sampled(node, how, source, target, scale), node.get("mode", "nearest")
    if mode == "nearest":
        rounding = ("floor" if scale > 1 else "ceil") if old else node.get("nearest_mode", "round_prefer_floor")
        return np.eye(source)[np.clip(NEAREST[rounding](at), 0, source - 1).astype(np.int64)]
    stretch = min(scale, 1.0) if node.get("antialias", 0) else 1.0
    a = node.get("cubic_coeff_a", -0.75)
    kernel, reach = (_triangle, 1) if mode == "linear" else ((lambda d: _cubic(d, a)), 2)
    reach = math.ceil(reach / stretch)
    taps = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weights = kernel(np.abs(taps - at[:, None]) * stretch)
    if node.get("exclude_outside", 0):
        weights = np.where((taps >= 0) & (taps < source), weights, 0)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target)[:, None], np.clip(taps, 0, source - 1)), weights)
    return matrix


NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _sampled(node: Node, how: str, source: int, target: int, scale: float) -> Array:
    """(target,) coordinates on the source."""
    i = np.arange(target, dtype=np.float64)
    if how == "half_pixel" or (how == "pytorch_half_pixel" and target > 1):
        return (i + 0.5) / scale - 0.5
    if how == "pytorch_half_pixel" or (how == "align_corners" and target == 1):
        return np.zeros(1)
    if how == "align_corners":
        return i * (source - 1) / (target - 1)
    if how == "asymmetric":
        return i / scale
    if how == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if how == "half_pixel_symmetric":
        return source / 2 * (1 - target / (scale * source)) + (i + 0.5) / scale - 0.5
    raise node.unknown(f"coordinate_transformation_mode {how}")


def _triangle(distance: Array) -> Array:
    return np.maximum(1 - distance, 0)


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
