"""Turns a PyTorch step (a score and its gradient) into an ONNX graph: trace it in core operators, then translate it.

export_step.py uses it. PyTorch leaves some gradients in one operator that ONNX does not have; their formulas are here.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
import torch
from onnx_torch import along
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from onnxcam.errors import ModelError
from onnxcam.surgeon.graphs.masked_score import IMAGE, MAPS, TARGETS
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE

OPSET = 18
"""The opset of PyTorch's translations. Other opsets are converted from it."""

aten = torch.ops.aten


def traced(step: Callable[..., Any], example: Sequence[Tensor]) -> torch.fx.GraphModule:
    """The step with its gradient in core operators. All sizes are fixed but the batch."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def open_batch(x: Tensor) -> Tensor:
        sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * (x.ndim - 1)]
        return mode.from_tensor(x, symbolic_context=StatelessSymbolicContext(sizes))

    table = {**torch._decomp.core_aten_decompositions(), **DECOMPOSITIONS}
    tracer = make_fx(step, decomposition_table=table, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    try:
        with sdpa_kernel(SDPBackend.MATH):  # attention in one operator has a gradient in one operator
            return tracer(*map(open_batch, example))
    except (NotImplementedError, GuardOnDataDependentSymNode) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"the gradient cannot be traced through {reason}; use a gradient-free method") from None


def translated(step: torch.fx.GraphModule, example: Sequence[Tensor]) -> onnx_ir.Model:
    """The traced step as ONNX. Raises ModelError if PyTorch has no translation of an operator."""
    batch = torch.export.Dim("N", min=1)
    with warnings.catch_warnings(action="ignore"):  # export_step checks the graph afterwards
        program = torch.export.export(step, tuple(example), dynamic_shapes=tuple({0: batch} for _ in example))
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGE, MAPS, TARGETS],
                output_names=[SCORE, GRADIENT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = next((t for t in str(error).splitlines() if "No ONNX function" in t), str(error).splitlines()[0])
            raise ModelError(
                f"PyTorch cannot write this gradient as ONNX ({reason.strip()[:200]}); use a gradient-free method"
            ) from None
    assert exported is not None
    return exported.model


# Gradients that PyTorch leaves in one operator.

Sizes = Sequence[int]


def convolution_backward(
    dy: Tensor, x: Tensor, w: Tensor, bias: Sizes | None, stride: Sizes, padding: Sizes, dilation: Sizes,
    transposed: bool, output_padding: Sizes, groups: int, output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """The gradient by the data: a transposed convolution, or at stride 1 one over flipped weights, faster on CPUs."""
    assert not any(output_mask[1:]), "weights are constants"
    none = [0] * len(stride)
    if transposed:
        return aten.convolution(dy, w, None, stride, padding, dilation, False, none, groups), None, None
    around = [d * (k - 1) - p for d, k, p in zip(dilation, w.shape[2:], padding, strict=True)]
    if all(s == 1 for s in stride) and min(around) >= 0:
        flipped = _turned(w, groups)
        return aten.convolution(dy, flipped, None, stride, around, dilation, False, none, groups), None, None
    sides = zip(x.shape[2:], dy.shape[2:], stride, around, padding, strict=True)
    # A convolution may not read the last rows of its input; their gradient is zero.
    unread = [n - ((m - 1) * s + a - p + 1) for n, m, s, a, p in sides]
    return aten.convolution(dy, w, None, stride, padding, dilation, True, unread, groups), None, None


def _turned(w: Tensor, groups: int) -> Tensor:
    """Weights (out, in/groups, *kernel) as (in, out/groups, *kernel), with the kernel flipped."""
    out, inner, *kernel = w.shape
    axes = [i for i in range(2, w.ndim) if w.shape[i] > 1]
    backwards = w.flip(axes) if axes else w
    swapped = backwards.reshape(groups, out // groups, inner, *kernel).transpose(1, 2)
    return swapped.reshape(groups * inner, out // groups, *kernel)


def average_pool_backward(
    dy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, count_include_pad: bool,
    divisor: int | None,
) -> Tensor:  # fmt: skip
    """The gradient of means over windows: the mean is one matrix per axis, the gradient their transposes."""
    rank = len(kernel)
    for i in range(rank):
        source, target = x.shape[i - rank], dy.shape[i - rank]
        matrix = np.zeros((target, source))
        for j in range(target):
            start = j * (stride or kernel)[i] - padding[i]
            end = min(start + kernel[i], source + padding[i])
            cells = range(max(start, 0), min(end, source))
            matrix[j, cells] = 1 / (end - start if count_include_pad else len(cells)) if not divisor else 1
        dy = along(dy, dy.ndim - rank + i, matrix.T)
    return dy / divisor if divisor else dy


def _adaptive(source: int, target: int) -> npt.NDArray[np.float64]:
    """(target, source) weights of adaptive average pooling along one axis."""
    matrix = np.zeros((target, source))
    for j in range(target):
        cells = range(j * source // target, -(-(j + 1) * source // target))
        matrix[j, cells] = 1 / len(cells)
    return matrix


def adaptive_average_pool(x: Tensor, sizes: Sizes) -> Tensor:
    rank = len(sizes)
    for axis, target in enumerate(sizes, start=x.ndim - rank):
        x = along(x, axis, _adaptive(x.shape[axis], target))
    return x


def adaptive_average_pool_backward(dy: Tensor, x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        dy = along(dy, axis, _adaptive(x.shape[axis], dy.shape[axis]).T)
    return dy


def max_pool_backward(dy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes,
                      ceil_mode: bool, indices: Tensor) -> Tensor:  # fmt: skip
    """Adds each window's gradient at the place of its maximum. indices count within a map."""
    places = math.prod(x.shape[2:])
    flat = torch.zeros_like(x).reshape(*x.shape[:2], places)
    spread = flat.scatter_add(2, indices.reshape(*x.shape[:2], -1), dy.reshape(*x.shape[:2], -1))
    return spread.reshape(x.shape)


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.avg_pool2d_backward.default: average_pool_backward,
    aten.avg_pool3d_backward.default: average_pool_backward,
    aten._adaptive_avg_pool2d.default: adaptive_average_pool,
    aten._adaptive_avg_pool3d.default: adaptive_average_pool,
    aten._adaptive_avg_pool2d_backward.default: adaptive_average_pool_backward,
    aten._adaptive_avg_pool3d_backward.default: adaptive_average_pool_backward,
    aten.max_pool2d_with_indices_backward.default: max_pool_backward,
    aten.max_pool3d_with_indices_backward.default: max_pool_backward,
}
