"""Pooling."""

import math

import numpy as np

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, gradient
from onnxcam.surgeon.autodiff.rules.windows import Windows, windows_of
from onnxcam.surgeon.ir import Value


@gradient("GlobalAveragePool", since=(1, 22))
def global_average(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    cells = math.prod(step.static(step.x, range(2, step.rank(step.x))))
    return op.Expand(op.Mul(dy, op.number(1 / cells)), op.Shape(step.x))


@gradient("GlobalMaxPool", since=(1, 22))
def global_max(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """To the first of equals."""
    flat = op.reshape(step.x, [0, 0, -1])
    place = op.ArgMax(flat, axis=2, keepdims=1)
    given = op.reshape(dy, [0, 0, 1])
    return op.Reshape(op.ScatterElements(op.zeros_like(flat), place, given, axis=2), op.Shape(step.x))


@gradient("MaxPool", since=(12, 22))
def max_pool(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """The operator can tell where its maxima were, counted over the whole tensor."""
    if step.integer("storage_order", 0):
        raise step.refusal("numbers its maxima by columns")
    places = op.reshape(step.further_output(1), [-1])
    kernel = step.integers("kernel_shape") or []
    strides = step.integers("strides") or [1] * len(kernel)
    apart = all(s >= k for s, k in zip(strides, kernel, strict=True)) and not step.integers("dilations")
    flat = op.reshape(op.zeros_like(step.x), [-1])
    given = op.reshape(dy, [-1])
    reduction = {} if apart else {"reduction": "add"}
    return op.Reshape(op.ScatterElements(flat, places, given, axis=0, **reduction), op.Shape(step.x))


@gradient("AveragePool", since=(11, 19, 22))
def average_pool(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """Each window gives back its share; how many entries it averaged is a matter of position alone."""
    windows = windows_of(step, step.integers("kernel_shape") or [])
    strides, dilations = windows.strides, windows.dilations
    counts = np.ones([1] * len(windows.sizes))
    padded = bool(step.integer("count_include_pad", 0))
    for axis, (size, k, n) in enumerate(zip(windows.sizes, windows.kernel, windows.results, strict=True)):
        before, after = windows.pads[axis]
        places = np.arange(n)[:, None] * strides[axis] + np.arange(k)[None] * dilations[axis] - before
        low, high = (-before, size + after) if padded else (0, size)
        inside = ((places >= low) & (places < high)).sum(axis=1)
        counts = counts * inside.reshape([-1 if i == axis else 1 for i in range(counts.ndim)])
    given = op.Mul(dy, op.number(1 / np.maximum(counts, 1)[None, None]))
    if windows.kernel == strides and set(dilations) == {1} and not any(map(any, windows.pads)):
        return _repeated(op, given, windows)
    return _laid_over(op, step, given, windows)


def _laid_over(op: Ops, step: BackwardNode, given: Value, windows: Windows) -> Value:
    """Each window filled with its number, summed where windows overlap; the padding cut off, what none reaches 0."""
    (channels,) = step.static(step.x, [1])
    back = op.ConvTranspose(
        given, op.number(np.ones((channels, 1, *windows.kernel))), group=channels, strides=windows.strides,
        dilations=windows.dilations,
    )  # fmt: skip
    sides = zip(windows.sizes, windows.covered, windows.pads, strict=True)
    return op.pad(back, step.rank(step.x), {2 + i: (-p, n + p - c) for i, (n, c, (p, _)) in enumerate(sides)})


def _repeated(op: Ops, given: Value, windows: Windows) -> Value:
    """Windows side by side: each entry of the gradient stands once in its window."""
    sizes, kernel, results = windows.sizes, windows.kernel, windows.results
    rank = len(sizes) + 2
    for i, k in enumerate(kernel):
        if k == 1:
            continue
        axis = 2 + i
        wide = op.unsqueeze(given, [axis + 1])
        target = [1] * (axis + 1) + [k] + [1] * (rank - axis - 1)
        repeated = op.Expand(wide, op.integers(target))
        # 0 keeps an axis: those before; those behind are the same in number.
        done = [*(results[j] * kernel[j] for j in range(i + 1)), *results[i + 1 :]]
        given = op.reshape(repeated, [0, 0, *done])
    rest = {2 + i: (0, n - r * k) for i, (n, r, k) in enumerate(zip(sizes, results, kernel, strict=True))}
    return op.pad(given, rank, rest)


@gradient("LpPool GlobalLpPool", since=(2, 18, 22))
def lp_pool(op: Ops, step: BackwardNode, dy: Value) -> Cotangents:
    """y = (sum |x|^p)^(1/p): dx = sign(x) |x|^(p-1) * (windows of dy y^(1-p) laid over each other)."""
    p = step.integer("p", 2)
    safe = op.Where(op.Equal(step.y, op.number(0)), op.number(1), step.y)
    given = op.Mul(dy, op.Pow(safe, op.number(1 - p)))
    if step.node.op_type == "LpPool":
        given = _laid_over(op, step, given, windows_of(step, step.integers("kernel_shape") or []))
    slope = op.Mul(op.Sign(step.x), op.Pow(op.Abs(step.x), op.number(p - 1)))
    return op.Mul(given, slope)
