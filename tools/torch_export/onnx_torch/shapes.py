"""Operators that move numbers and do not compute with them: reshapes, slices, joins, padding."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from onnx_torch.registry import Node, Value, operator
from onnx_torch.values import along, integers


@operator("Reshape", host=(1,))
def reshape(node: Node, x: Tensor, sizes: Value | None = None) -> Tensor:
    shape = integers(node, sizes, "shape") or []
    copied = not node.get("allowzero", 0)
    return x.reshape([x.shape[i] if copied and isinstance(s, int) and s == 0 else s for i, s in enumerate(shape)])


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or list(reversed(range(x.ndim))))


@operator("Squeeze", host=(1,))
def squeeze(node: Node, x: Tensor, axes: Value | None = None) -> Tensor:
    chosen = integers(node, axes, "axes")
    if chosen is None:
        chosen = [i for i, d in enumerate(x.shape) if isinstance(d, int) and d == 1]
    gone = {a % x.ndim for a in chosen}
    return x.reshape([d for i, d in enumerate(x.shape) if i not in gone])


@operator("Unsqueeze", host=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Value | None = None) -> Tensor:
    chosen = integers(node, axes, "axes") or []
    for axis in sorted(a % (x.ndim + len(chosen)) for a in chosen):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", host=(1,))
def expand(node: Node, x: Tensor, sizes: Value) -> Tensor:
    """Broadcasts both ways: where the shape has a 1, x keeps its size."""
    shape = integers(node, sizes) or []
    before = [1] * (len(shape) - x.ndim) + list(x.shape)
    shape = [1] * (len(before) - len(shape)) + shape
    return x.expand([b if isinstance(s, int) and s == 1 else s for b, s in zip(before, shape, strict=True)])


@operator("Tile", host=(1,))
def tile(node: Node, x: Tensor, repeats: Value) -> Tensor:
    return x.repeat(integers(node, repeats) or [])


@operator("Concat")
def concat(node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, node.get("axis"))


@operator("Split", host=(1,))
def split(node: Node, x: Tensor, sizes: Value | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    return tuple(torch.split(x, split_sizes(node, sizes, x.shape[axis]), axis))


def split_sizes(node: Node, sizes: Value | None, side: int) -> list[int]:
    """The sizes of a Split's outputs. By default all but the last are equal."""
    listed = integers(node, sizes, "split")
    if listed is not None:
        return listed
    count = node.get("num_outputs", len(node.outputs))
    part = -(-side // count)
    return [*[part] * (count - 1), side - part * (count - 1)]


def slice_bounds(node: Node, bounds: Sequence[Value | None]) -> list[tuple[Any, Any, int, int]]:
    """(start, end, axis, step) for each sliced axis."""
    padded = [*bounds, *[None] * (4 - len(bounds))]
    starts, ends, axes, steps = (
        integers(node, b, name) for b, name in zip(padded, ("starts", "ends", "axes", "steps"), strict=True)
    )
    if starts is None or ends is None:
        raise node.unknown("no bounds")
    axes = list(range(len(starts))) if axes is None else axes
    return list(zip(starts, ends, axes, steps or [1] * len(starts), strict=True))


@operator("Slice", host=(1, 2, 3, 4))
def slice_(node: Node, x: Tensor, *bounds: Value | None) -> Tensor:
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in slice_bounds(node, bounds):
        if step < 0:  # torch has no negative steps: count from the other end
            side = x.shape[axis]
            start, end = (max(min(v + side if v < 0 else v, side - 1), -1) for v in (start, end))
            x, start, end, step = x.flip(axis), side - 1 - start, side - 1 - end, -step
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        blocks = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // (b * b), h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    if node.get("mode", "DCR") != "DCR":
        raise node.unknown("mode")
    n, c, h, w = x.shape
    b = node.get("blocksize")
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@operator("Pad", host=(1, 2, 3))
def pad(node: Node, x: Tensor, pads: Value | None = None, filler: Value | None = None,
        axes: Value | None = None) -> Tensor:  # fmt: skip
    amounts, mode = integers(node, pads, "pads") or [], node.get("mode", "constant")
    chosen = integers(node, axes)
    sides = list(range(x.ndim)) if chosen is None else [a % x.ndim for a in chosen]
    before = dict(zip(sides, amounts, strict=False))
    after = dict(zip(sides, amounts[len(sides) :], strict=True))
    if mode == "constant":
        if isinstance(filler, Tensor):
            raise node.unknown("a filler that depends on data")
        number = node.get("value", 0.0) if filler is None else filler.item()
        flat = [a for i in reversed(range(x.ndim)) for a in (before.get(i, 0), after.get(i, 0))]
        return functional.pad(x, flat, value=number)
    for axis in sides:
        if before[axis] or after[axis]:
            rows = np.pad(np.arange(x.shape[axis]), (before[axis], after[axis]), mode)
            x = along(x, axis, np.eye(x.shape[axis])[rows])
    return x
