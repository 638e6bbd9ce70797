"""Convolutions. Weights are parameters: no gradient is wanted for them.

The data gradient of a convolution of stride 1 is a convolution with the kernel turned round and its channels swapped,
which a CPU runs as fast as the forward pass; of a larger stride it is a transposed convolution.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.graph import END, Value
from onnxcam.surgeon.rules.registry import Cotangents, Ops, Step, gradient


def padding(step: Step, sizes: Sequence[int], kernel: Sequence[int], results: Sequence[int]) -> list[tuple[int, int]]:
    """Entries added (before, after) along each spatial axis, auto_pad worked out. results: the output's sizes."""
    rank = len(sizes)
    policy = step.text("auto_pad", "NOTSET")
    if policy in ("NOTSET", ""):
        pads = step.integers("pads") or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if policy == "VALID":
        return [(0, 0)] * rank
    strides, dilations = (step.integers(name) or [1] * rank for name in ("strides", "dilations"))
    found = []
    for i, (size, k) in enumerate(zip(sizes, kernel, strict=True)):
        total = max((results[i] - 1) * strides[i] + dilations[i] * (k - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if policy == "SAME_UPPER" else (more, less))
    return found


@gradient("Conv", since=(11, 22))
def conv(op: Ops, step: Step, dy: Value) -> Cotangents:
    step.only(0)
    return convolved_back(op, step, dy, step.inputs[1], step.static(step.inputs[1], range(step.rank(step.inputs[1]))))


def convolved_back(op: Ops, step: Step, dy: Value, weight: Value, shape: Sequence[int]) -> Value:
    """The data gradient of the node's convolution with this weight (M, C/groups, ...) of the given shape."""
    space = list(range(2, step.rank(step.x)))
    sizes, kernel, results = step.static(step.x, space), list(shape[2:]), step.static(step.y, space)
    strides, dilations = (step.integers(name) or [1] * len(space) for name in ("strides", "dilations"))
    pads = padding(step, sizes, kernel, results)
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    groups = step.integer("group", 1)
    if all(s == 1 for s in strides) and all(p <= r and q <= r for (p, q), r in zip(pads, reach, strict=True)):
        turned = [r - p for (p, _), r in zip(pads, reach, strict=True)]
        turned += [r - q for (_, q), r in zip(pads, reach, strict=True)]
        return op.Conv(
            dy, _turned(op, weight, shape, groups), group=groups, dilations=dilations, pads=turned, kernel_shape=kernel
        )
    if groups > 1 and groups == step.static(step.x, [1])[0] == shape[0]:
        found = _depthwise(op, step, dy, weight, shape, sizes, strides, dilations, pads)
        if found is not None:
            return found
    # What the last stride left over at the end is reached by no window, and gets a gradient of 0.
    covered = [(o - 1) * s + r + 1 - p - q for o, s, r, (p, q) in zip(results, strides, reach, pads, strict=True)]
    extra = [size - c for size, c in zip(sizes, covered, strict=True)]
    return op.ConvTranspose(
        dy, weight, group=groups, dilations=dilations, strides=strides, kernel_shape=kernel,
        pads=[p for p, _ in pads] + [q for _, q in pads], output_padding=extra,
    )  # fmt: skip


def _depthwise(
    op: Ops,
    step: Step,
    dy: Value,
    weight: Value,
    shape: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Value | None:
    """Of one channel each with a stride: entries set apart by zeros, and a convolution of stride 1.

    A CPU takes 1.3 to 2.5 times as long for the transposed convolution of single channels. The zeros come from
    repeating the entries and a mask, which is faster than any way of putting them in. None where it does not fit.
    """
    space = list(range(2, step.rank(step.x)))
    kernel, results = list(shape[2:]), step.static(step.y, space)
    turned: tuple[list[int], list[int]] = ([], [])
    apart = np.ones([1] * len(space))
    for i, (size, s, n, (p, _)) in enumerate(zip(sizes, strides, results, pads, strict=True)):
        reach = dilations[i] * (kernel[i] - 1)
        turned[0].append(reach - p)
        turned[1].append(size + p - n * s)
        first = np.arange(n * s) % s == 0
        apart = apart * first.reshape([-1 if j == i else 1 for j in range(len(space))])
    if len(space) != 2 or min(*turned[0], *turned[1]) < 0:
        return None
    repeated = op.Resize(
        dy, None, op.build.constant([1, 1, *strides], np.float32), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    zeros = op.Mul(repeated, op.number(apart[None, None]))
    groups = step.integer("group", 1)
    return op.Conv(
        zeros, _turned(op, weight, shape, groups), group=groups, dilations=dilations, pads=[*turned[0], *turned[1]],
        kernel_shape=kernel,
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
def conv_transpose(op: Ops, step: Step, dy: Value) -> Cotangents:
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
