"""Matrix products and convolutions."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from onnx_torch.registry import Node, operator
from onnx_torch.windows import windows_of


@operator("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    product = (a.T if node.get("transA", 0) else a) @ (b.T if node.get("transB", 0) else b)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


@operator("Einsum")
def einsum(node: Node, *operands: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *operands)


CONVOLUTIONS: Mapping[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@operator("Conv")
def conv(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    f = windows_of(node, x.shape[2:], w.shape[2:])
    padding: Any = f.before if f.is_even else 0
    x = x if f.is_even else f.padded(x)
    return CONVOLUTIONS[w.ndim - 2](x, w, bias, f.strides, padding, f.dilations, node.get("group", 1))


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = w.ndim - 2
    f = windows_of(node, x.shape[2:], w.shape[2:])
    extra = node.get("output_padding") or [0] * rank
    before, after = f.before, f.after
    sizes, auto = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    if sizes or auto not in ("NOTSET", "VALID"):
        sizes = sizes[-rank:] if sizes else [n * s for n, s in zip(x.shape[2:], f.strides, strict=True)]
        reach = [d * (k - 1) + 1 for d, k in zip(f.dilations, f.kernel, strict=True)]
        sides = zip(x.shape[2:], f.strides, reach, extra, sizes, strict=True)
        total = [s * (n - 1) + e + r - size for n, s, r, e, size in sides]
        # SAME_UPPER leaves the odd one at the end, all else at the beginning.
        after = [-(-t // 2) if auto == "SAME_UPPER" else t // 2 for t in total]
        before = [t - a for t, a in zip(total, after, strict=True)]
    even = before == after and min(before) >= 0
    group = node.get("group", 1)
    y = TRANSPOSED[rank](x, w, bias, f.strides, before if even else 0, extra, group, f.dilations)
    if even:
        return y
    return functional.pad(y, [-a for pair in reversed(list(zip(before, after, strict=True))) for a in pair])
