"""Convolutions. Weights are parameters: no gradient is wanted for them.

The data gradient of a convolution of stride 1 is a convolution with the kernel turned round and its channels swapped,
which a CPU runs as fast as the forward pass; of a larger stride it is a transposed convolution.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.autodiff.rules.windows import Windows, padding, windows_of
from onnxcam.surgeon.ir import END, Value


@gradient("Conv", since=(11, 22))
def conv(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    step.only(0)
    return convolved_back(op, step, dy, step.inputs[1], step.static(step.inputs[1], range(step.rank(step.inputs[1]))))


def convolved_back(op: Ops, step: BackwardNode, dy: Value, weight: Value, shape: Sequence[int]) -> Value:
    """The data gradient of the node's convolution with this weight (M, C/groups, ...) of the given shape."""
    windows, groups = windows_of(step, shape[2:]), step.integer("group", 1)
    pads, reach = windows.pads, windows.reach
    if all(s == 1 for s in windows.strides) and all(p <= r and q <= r for (p, q), r in zip(pads, reach, strict=True)):
        turned = [r - p for (p, _), r in zip(pads, reach, strict=True)]
        turned += [r - q for (_, q), r in zip(pads, reach, strict=True)]
        return op.Conv(
            dy, _turned(op, weight, shape, groups), group=groups, dilations=windows.dilations, pads=turned,
            kernel_shape=windows.kernel,
        )  # fmt: skip
    if groups > 1 and groups == step.static(step.x, [1])[0] == shape[0]:
        found = _depthwise(op, dy, weight, shape, windows)
        if found is not None:
            return found
    # What the last stride left over at the end is reached by no window, and gets a gradient of 0.
    extra = [n + p + q - c for n, (p, q), c in zip(windows.sizes, pads, windows.covered, strict=True)]
    return op.ConvTranspose(
        dy, weight, group=groups, dilations=windows.dilations, strides=windows.strides, kernel_shape=windows.kernel,
        pads=[p for p, _ in pads] + [q for _, q in pads], output_padding=extra,
    )  # fmt: skip


def _depthwise(op: Ops, dy: Value, weight: Value, shape: Sequence[int], windows: Windows) -> Value | None:
    """Of one channel each with a stride: entries set apart by zeros, and a convolution of stride 1.

    A CPU takes 1.3 to 2.5 times as long for the transposed convolution of single channels. The zeros come from
    repeating the entries and a mask, which is faster than any way of putting them in. None where it does not fit.
    """
    sides = zip(windows.sizes, windows.results, windows.strides, windows.reach, windows.pads, strict=True)
    before, after = [], []
    apart = np.ones([1] * len(windows.sizes))
    for i, (size, n, s, reach, (p, _)) in enumerate(sides):
        before.append(reach - p)
        after.append(size + p - n * s)
        first = np.arange(n * s) % s == 0
        apart = apart * first.reshape([-1 if j == i else 1 for j in range(apart.ndim)])
    if apart.ndim != 2 or min(*before, *after) < 0:
        return None
    repeated = op.Resize(
        dy, None, op.build.constant([1, 1, *windows.strides], np.float32), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    zeros = op.Mul(repeated, op.number(apart[None, None]))
    return op.Conv(
        zeros, _turned(op, weight, shape, shape[0]), group=shape[0], dilations=windows.dilations,
        pads=[*before, *after], kernel_shape=windows.kernel,
    )  # fmt: skip


def _turned(op: Ops, weight: Value, shape: Sequence[int], groups: int) -> Value:
    """(M, C/g, ...) to (C, M/g, ...), each kernel turned round; the runtime folds this once."""
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
def conv_transpose(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """A convolution with the same weight, of the same strides and pads."""
    step.only(0)
    weight, rank = step.inputs[1], step.rank(step.x)
    space = list(range(2, rank))
    sizes, kernel, results = step.static(step.x, space), step.static(weight, space), step.static(step.y, space)
    strides, dilations = (step.integers(name) or [1] * len(space) for name in ("strides", "dilations"))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    grown = step.integers("output_padding") or [0] * len(space)
    full = [(n - 1) * s + r + 1 + g for n, s, r, g in zip(sizes, strides, reach, grown, strict=True)]
    if step.text("auto_pad", "NOTSET") in ("NOTSET", "") and not step.integers("output_shape"):
        pads = padding(step, sizes, kernel, results)
    else:
        total = [f - o for f, o in zip(full, results, strict=True)]
        upper = step.text("auto_pad", "NOTSET") == "SAME_UPPER"
        pads = [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in total]
    if any(p < 0 or q < 0 for p, q in pads):
        raise step.refusal("has a shape that no padding explains")
    # The output's padding at the end is in no window of the convolution back.
    back = op.Conv(
        dy, weight, group=step.integer("group", 1), dilations=dilations, strides=strides, kernel_shape=kernel,
        pads=[p for p, _ in pads] + [q for _, q in pads],
    )  # fmt: skip
    # Where it is as long as a stride, one window too many fits in.
    return op.slice(back, {a: (0, n) for a, n in zip(space, sizes, strict=True)}) if any(grown) else back
