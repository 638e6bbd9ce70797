"""Poolings, over windows and over all places."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torch.nn import functional

from onnx_torch.products import CONVOLUTIONS
from onnx_torch.registry import Node, operator
from onnx_torch.windows import Windows, windows_of

MAX_POOLS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
AVERAGE_POOLS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _fitted(node: Node, sides: Sequence[int], f: Windows) -> Windows:
    """The windows with a padding (or cropping) at the end, so that complete windows fill the sides exactly."""
    after = []
    for i, side in enumerate(sides):
        reach = f.dilations[i] * (f.kernel[i] - 1) + 1
        room = side + f.before[i] + f.after[i] - reach
        count = (-(-room // f.strides[i]) if node.get("ceil_mode", 0) else room // f.strides[i]) + 1
        if node.get("ceil_mode", 0) and (count - 1) * f.strides[i] >= side + f.before[i]:
            count -= 1  # a window may not begin in the padding at the end
        after.append((count - 1) * f.strides[i] + reach - side - f.before[i])
    return Windows(f.kernel, f.strides, f.dilations, f.before, after)


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    f = windows_of(node, x.shape[2:], node.get("kernel_shape"))
    pool = MAX_POOLS[len(f.kernel)]
    if f.is_even and not node.get("ceil_mode", 0) and all(2 * p <= k for p, k in zip(f.before, f.kernel, strict=True)):
        return pool(x, f.kernel, f.strides, f.before, f.dilations)
    padded = _fitted(node, x.shape[2:], f).padded(x, -math.inf)
    return pool(padded, f.kernel, f.strides, 0, f.dilations)


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Padding counts if count_include_pad is set. What ceil_mode adds beyond the padding never counts."""
    f = windows_of(node, x.shape[2:], node.get("kernel_shape"))
    included = bool(node.get("count_include_pad", 0))
    simple = not node.get("ceil_mode", 0) and all(d == 1 for d in f.dilations)
    if simple and f.is_even and all(2 * p <= k for p, k in zip(f.before, f.kernel, strict=True)):
        return AVERAGE_POOLS[len(f.kernel)](x, f.kernel, f.strides, f.before, count_include_pad=included)
    fitted = _fitted(node, x.shape[2:], f)
    counted = x.new_ones([1, 1, *x.shape[2:]])
    if included:
        within = [min(a, b) for a, b in zip(f.after, fitted.after, strict=True)]
        counted = Windows(f.kernel, f.strides, f.dilations, f.before, within).padded(counted, 1.0)
        rest = [b - a for a, b in zip(within, fitted.after, strict=True)]
        counted = Windows(f.kernel, f.strides, f.dilations, [0] * len(rest), rest).padded(counted)
    else:
        counted = fitted.padded(counted)
    return _window_sums(fitted.padded(x), f) / _window_sums(counted, f)


def _window_sums(x: Tensor, f: Windows) -> Tensor:
    flat = x.reshape(-1, 1, *x.shape[2:])
    sums = CONVOLUTIONS[len(f.kernel)](flat, x.new_ones([1, 1, *f.kernel]), None, f.strides, 0, f.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


@operator("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    f = windows_of(node, x.shape[2:], node.get("kernel_shape"))
    p = node.get("p", 2)
    return _window_sums(_fitted(node, x.shape[2:], f).padded(x.abs() ** p), f) ** (1 / p)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.ndim)), True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.get("p", 2)
    return (x.abs() ** p).sum(list(range(2, x.ndim)), True) ** (1 / p)
