"""MaxPool's gradient without the indices of the maxima, for providers that do not give them (WebGPU)."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops
from onnxcam.surgeon.autodiff.rules.windows import Windows, windows_of
from onnxcam.surgeon.ir import Value

LOWEST = float(np.finfo(np.float32).min)


def max_pool_by_windows(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Each window's numbers are compared with its maximum; dy goes to the first that equals it, as with the indices.

    Takes kernel-size times the memory of the result. An override for MaxPool, not in VJP_RULES.
    """
    windows = windows_of(node, node.integers("kernel_shape") or [])
    (channels,) = node.static(node.x, [1])
    count = math.prod(windows.kernel)
    entries = [op.unsqueeze(part, [2]) for part in _entries(op, node, windows)]
    equal = op.indicator(op.Equal(op.Concat(*entries, axis=2), op.unsqueeze(node.y, [2])))
    # The first of several equal entries has the largest number.
    order = np.arange(count, 0, -1).reshape(1, 1, count, *[1] * len(windows.kernel))
    numbered = op.Mul(equal, op.number(order))
    first = op.indicator(op.Equal(numbered, op.ReduceMax(numbered, op.integers([2]), keepdims=1)))
    shares = op.reshape(op.Mul(first, op.unsqueeze(dy, [2])), [0, channels * count, *windows.results])
    places = np.tile(np.eye(count).reshape(count, 1, *windows.kernel), (channels, *[1] * (len(windows.kernel) + 1)))
    back = op.ConvTranspose(
        shares, op.number(places), group=channels, strides=windows.strides, dilations=windows.dilations
    )
    sides = enumerate(zip(windows.sizes, windows.covered, windows.pads, strict=True))
    return op.pad(back, node.rank(node.x), {2 + i: (-before, n + before - c) for i, (n, c, (before, _)) in sides})


def _entries(op: Ops, node: BackwardNode, windows: Windows) -> Sequence[Value]:
    """The first entry of every window, the second, ..., each of the shape of the result; the padding is LOWEST."""
    before = [first for first, _ in windows.pads]
    after = [max(0, c - n - b) for n, c, b in zip(windows.sizes, windows.covered, before, strict=True)]
    x = node.x
    if any(before) or any(after):
        x = op.Pad(x, op.integers([0, 0, *before, 0, 0, *after]), op.number(LOWEST))
    axes, steps = op.integers(range(2, 2 + len(before))), op.integers(windows.strides)
    parts = []
    for entry in itertools.product(*map(range, windows.kernel)):
        starts = [i * d for i, d in zip(entry, windows.dilations, strict=True)]
        ends = [b + (n - 1) * s + 1 for b, n, s in zip(starts, windows.results, windows.strides, strict=True)]
        parts.append(op.Slice(x, op.integers(starts), op.integers(ends), axes, steps))
    return parts
