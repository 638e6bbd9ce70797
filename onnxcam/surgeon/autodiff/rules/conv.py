"""Gradient rules for convolutions: Conv, ConvTranspose. No gradient is built for weights.

The gradient of a stride-1 convolution by its input is a convolution with flipped kernels and swapped channels, which a
CPU runs as fast as the forward pass. For a larger stride it is a transposed convolution.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.autodiff.rules.windows import Windows, padding, windows_of
from onnxcam.surgeon.ir import END, Value


@gradient("Conv", since=(11, 22))
def conv(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    node.only(0)
    return convolved_back(op, node, dy, node.inputs[1], node.static(node.inputs[1], range(node.rank(node.inputs[1]))))


def convolved_back(op: Ops, node: BackwardNode, dy: Value, weight: Value, shape: Sequence[int]) -> Value:
    """The gradient of the node's convolution by its input. weight: (M, C/groups, *kernel), whose shape is `shape`."""
    windows, groups = windows_of(node, shape[2:]), node.integer("group", 1)
    pads, reach = windows.pads, windows.reach
    if all(s == 1 for s in windows.strides) and all(p <= r and q <= r for (p, q), r in zip(pads, reach, strict=True)):
        mirrored = [r - p for (p, _), r in zip(pads, reach, strict=True)]
        mirrored += [r - q for (_, q), r in zip(pads, reach, strict=True)]
        return op.Conv(
            dy, _flipped(op, weight, shape, groups), group=groups, dilations=windows.dilations, pads=mirrored,
            kernel_shape=windows.kernel,
        )  # fmt: skip
    if groups > 1 and groups == node.static(node.x, [1])[0] == shape[0]:
        back = _depthwise(op, dy, weight, shape, windows)
        if back is not None:
            return back
    # Entries behind the last window get a gradient of 0.
    rest = [n + p + q - c for n, (p, q), c in zip(windows.sizes, pads, windows.covered, strict=True)]
    return op.ConvTranspose(
        dy, weight, group=groups, dilations=windows.dilations, strides=windows.strides, kernel_shape=windows.kernel,
        pads=[p for p, _ in pads] + [q for _, q in pads], output_padding=rest,
    )  # fmt: skip


def _depthwise(op: Ops, dy: Value, weight: Value, shape: Sequence[int], windows: Windows) -> Value | None:
    """A strided depthwise convolution (one channel per group): zeros between the entries of dy, then a stride-1 Conv.

    A CPU takes 1.3 to 2.5 times as long for the depthwise transposed convolution. The zeros are made by repeating the
    entries and multiplying by a 0/1 pattern, the fastest variant measured. None if the padding does not allow it.
    """
    sides = zip(windows.sizes, windows.results, windows.strides, windows.reach, windows.pads, strict=True)
    before, after = [], []
    pattern = np.ones([1] * len(windows.sizes))
    for i, (size, n, s, reach, (p, _)) in enumerate(sides):
        before.append(reach - p)
        after.append(size + p - n * s)
        first = np.arange(n * s) % s == 0
        pattern = pattern * first.reshape([-1 if j == i else 1 for j in range(pattern.ndim)])
    if pattern.ndim != 2 or min(*before, *after) < 0:
        return None
    repeated = op.Resize(
        dy, None, op.build.constant([1, 1, *windows.strides], np.float32), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    spaced = op.Mul(repeated, op.number(pattern[None, None]))
    return op.Conv(
        spaced, _flipped(op, weight, shape, shape[0]), group=shape[0], dilations=windows.dilations,
        pads=[*before, *after], kernel_shape=windows.kernel,
    )  # fmt: skip


def _flipped(op: Ops, weight: Value, shape: Sequence[int], groups: int) -> Value:
    """Weights (M, C/groups, *kernel) to (C, M/groups, *kernel), each kernel flipped. The runtime folds this once."""
    space = list(range(2, len(shape)))
    outputs, inputs = shape[0] // groups, shape[1]
    if groups == 1:
        swapped = op.transpose(weight, [1, 0, *space])
    elif outputs == inputs == 1:
        swapped = weight
    else:
        split = op.reshape(weight, [groups, outputs, inputs, *shape[2:]])
        swapped = op.transpose(split, [0, 2, 1, *(i + 1 for i in space)])
        swapped = op.reshape(swapped, [groups * inputs, outputs, *shape[2:]])
    wide = [i for i in space if shape[i] > 1]
    return op.slice(swapped, dict.fromkeys(wide, (-1, -END)), step=-1) if wide else swapped


@gradient("ConvTranspose", since=(11, 22))
def conv_transpose(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The gradient is a convolution with the same weight, strides and pads."""
    node.only(0)
    weight, rank = node.inputs[1], node.rank(node.x)
    space = list(range(2, rank))
    sizes, kernel, results = node.static(node.x, space), node.static(weight, space), node.static(node.y, space)
    strides, dilations = (node.integers(name) or [1] * len(space) for name in ("strides", "dilations"))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    output_padding = node.integers("output_padding") or [0] * len(space)
    full = [(n - 1) * s + r + 1 + g for n, s, r, g in zip(sizes, strides, reach, output_padding, strict=True)]
    if node.text("auto_pad", "NOTSET") in ("NOTSET", "") and not node.integers("output_shape"):
        pads = padding(node, sizes, kernel, results)
    else:
        total = [f - o for f, o in zip(full, results, strict=True)]
        upper = node.text("auto_pad", "NOTSET") == "SAME_UPPER"
        pads = [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in total]
    if any(p < 0 or q < 0 for p, q in pads):
        raise node.refusal("has an output shape that no padding explains")
    # No window of this convolution reaches the output padding.
    back = op.Conv(
        dy, weight, group=node.integer("group", 1), dilations=dilations, strides=strides, kernel_shape=kernel,
        pads=[p for p, _ in pads] + [q for _, q in pads],
    )  # fmt: skip
    # An output padding as long as the stride makes room for one window too many: it is cut off.
    return op.slice(back, {a: (0, n) for a, n in zip(space, sizes, strict=True)}) if any(output_padding) else back
