"""Gradient rules for pooling: MaxPool, AveragePool, LpPool, and GlobalMaxPool, GlobalAveragePool, GlobalLpPool."""

import math

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.autodiff.rules.windows import Windows, windows_of
from onnxcam.surgeon.ir import Value


@gradient("GlobalAveragePool", since=(1, 22))
def global_average(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    cells = math.prod(node.static(node.x, range(2, node.rank(node.x))))
    return op.Expand(op.Mul(dy, op.number(1 / cells)), op.Shape(node.x))


@gradient("GlobalMaxPool", since=(1, 22))
def global_max(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The cotangent goes to the maximum, to the first of several equal ones."""
    flat = op.reshape(node.x, [0, 0, -1])
    indices = op.ArgMax(flat, axis=2, keepdims=1)
    updates = op.reshape(dy, [0, 0, 1])
    return op.Reshape(op.ScatterElements(op.zeros_like(flat), indices, updates, axis=2), op.Shape(node.x))


@gradient("MaxPool", since=(12, 22))
def max_pool(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """The operator's second output holds the flat index of every maximum: dy is scattered there."""
    if node.integer("storage_order", 0):
        raise node.refusal("numbers its maxima by columns (storage_order=1)")
    indices = op.reshape(node.extra_output(1), [-1])
    kernel = node.integers("kernel_shape") or []
    strides = node.integers("strides") or [1] * len(kernel)
    disjoint = all(s >= k for s, k in zip(strides, kernel, strict=True)) and not node.integers("dilations")
    flat = op.reshape(op.zeros_like(node.x), [-1])
    updates = op.reshape(dy, [-1])
    reduction = {} if disjoint else {"reduction": "add"}
    return op.Reshape(op.ScatterElements(flat, indices, updates, axis=0, **reduction), op.Shape(node.x))


@gradient("AveragePool", since=(11, 19, 22))
def average_pool(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """Every entry of a window gets dy / count. The count depends on the window's position only, so it is a constant."""
    windows = windows_of(node, node.integers("kernel_shape") or [])
    strides, dilations = windows.strides, windows.dilations
    counts = np.ones([1] * len(windows.sizes))
    padded = bool(node.integer("count_include_pad", 0))
    for axis, (size, k, n) in enumerate(zip(windows.sizes, windows.kernel, windows.results, strict=True)):
        before, after = windows.pads[axis]
        positions = np.arange(n)[:, None] * strides[axis] + np.arange(k)[None] * dilations[axis] - before
        low, high = (-before, size + after) if padded else (0, size)
        inside = ((positions >= low) & (positions < high)).sum(axis=1)
        counts = counts * inside.reshape([-1 if i == axis else 1 for i in range(counts.ndim)])
    share = op.Mul(dy, op.number(1 / np.maximum(counts, 1)[None, None]))
    if windows.kernel == strides and set(dilations) == {1} and not any(map(any, windows.pads)):
        return _repeated(op, share, windows)
    return _summed_windows(op, node, share, windows)


def _summed_windows(op: Ops, node: BackwardNode, share: Value, windows: Windows) -> Value:
    """Fills each window with its number of `share` and sums where windows overlap; 0 where no window reaches.

    share: one number per window. Returns a tensor of the shape of the pooling's input.
    """
    (channels,) = node.static(node.x, [1])
    back = op.ConvTranspose(
        share, op.number(np.ones((channels, 1, *windows.kernel))), group=channels, strides=windows.strides,
        dilations=windows.dilations,
    )  # fmt: skip
    sides = zip(windows.sizes, windows.covered, windows.pads, strict=True)
    return op.pad(back, node.rank(node.x), {2 + i: (-p, n + p - c) for i, (n, c, (p, _)) in enumerate(sides)})


def _repeated(op: Ops, share: Value, windows: Windows) -> Value:
    """The same for windows side by side: each number is repeated over its window."""
    sizes, kernel, results = windows.sizes, windows.kernel, windows.results
    rank = len(sizes) + 2
    for i, k in enumerate(kernel):
        if k == 1:
            continue
        axis = 2 + i
        wide = op.unsqueeze(share, [axis + 1])
        target = [1] * (axis + 1) + [k] + [1] * (rank - axis - 1)
        repeated = op.Expand(wide, op.integers(target))
        # 0 keeps the axis.
        shape = [*(results[j] * kernel[j] for j in range(i + 1)), *results[i + 1 :]]
        share = op.reshape(repeated, [0, 0, *shape])
    rest = {2 + i: (0, n - r * k) for i, (n, r, k) in enumerate(zip(sizes, results, kernel, strict=True))}
    return op.pad(share, rank, rest)


@gradient("LpPool GlobalLpPool", since=(2, 18, 22))
def lp_pool(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    """y = (sum |x|^p)^(1/p): dx = sign(x) |x|^(p-1) * (sum over the windows that hold x of dy y^(1-p))."""
    p = node.integer("p", 2)
    safe = op.Where(op.Equal(node.y, op.number(0)), op.number(1), node.y)
    share = op.Mul(dy, op.Pow(safe, op.number(1 - p)))
    if node.op_type == "LpPool":
        share = _summed_windows(op, node, share, windows_of(node, node.integers("kernel_shape") or []))
    slope = op.Mul(op.Sign(node.x), op.Pow(op.Abs(node.x), op.number(p - 1)))
    return op.Mul(share, slope)
