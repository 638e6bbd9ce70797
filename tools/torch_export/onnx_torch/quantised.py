"""Quantised operators: numbers as floats that hold integers."""

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from onnx_torch.products import conv
from onnx_torch.registry import Node, Value, operator
from onnx_torch.values import as_tensor

RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1), "uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1),
}  # fmt: skip


def _spread(node: Node, x: Tensor, parameter: Tensor, axis: int) -> Tensor:
    """A scale or zero point in the shape of x: for all of it, for an axis, or for blocks along the axis."""
    if parameter.numel() == 1 or x.ndim == 0:
        return parameter.reshape(())
    if parameter.ndim == 1:
        return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    blocks = parameter.repeat_interleave(node.get("block_size"), axis)
    return blocks.narrow(axis, 0, x.shape[axis])


def quantise(node: Node, x: Tensor, scale: Tensor, zero: Value | None, axis: int = 1) -> Tensor:
    """x / scale + zero, rounded half to even and saturated, as floats. The gradient is 1 / scale, or 0 if saturated."""
    if zero is None:
        to = node.get("output_dtype", 0) or TensorProto.UINT8
        kind, point = onnx.helper.tensor_dtype_to_np_dtype(to).name, x.new_zeros(())
    elif isinstance(zero, np.ndarray):
        kind, point = zero.dtype.name, as_tensor(zero, node.dtype, x.device).to(node.dtype)
    else:
        kind, point = str(zero.dtype).removeprefix("torch."), zero.to(node.dtype)
    if kind not in RANGES:
        raise node.unknown(f"numbers of type {kind}")
    exact = x / _spread(node, x, scale, axis)
    # No gradient at the bounds either, as in Hardtanh: quantisers remove a Relu whose bounds the integers have.
    bounded = functional.hardtanh(exact + _spread(node, x, point, axis), *map(float, RANGES[kind]))
    stepped = torch.clamp(torch.round(exact) + _spread(node, x, point, axis), *RANGES[kind])
    return bounded + (stepped - bounded).detach()


def dequantise(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    """(x - zero) * scale."""
    x = x.to(node.dtype)
    shifted = x if zero is None else x - _spread(node, x, zero.to(node.dtype), axis)
    return shifted * _spread(node, x, scale, axis)


@operator("QuantizeLinear", host=(2,))
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Value | None = None) -> Tensor:
    return quantise(node, x, scale, zero, node.get("axis", 1))


@operator("DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    return dequantise(node, x, scale, zero, node.get("axis", 1))


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """The gradient takes the scale and the zero point as constants."""
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    shifted = x / scale + zero
    stepped = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return shifted + (stepped - shifted).detach(), scale, zero


def _shifted(node: Node, x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    return x.to(node.dtype) if zero is None else x.to(node.dtype) - _spread(node, x, zero.to(node.dtype), axis)


@operator("ConvInteger")
def conv_integer(node: Node, x: Tensor, w: Tensor, x0: Tensor | None = None, w0: Tensor | None = None) -> Tensor:
    return conv(node, _shifted(node, x, x0, 0), _shifted(node, w, w0, 0))


@operator("MatMulInteger")
def matmul_integer(node: Node, a: Tensor, b: Tensor, a0: Tensor | None = None, b0: Tensor | None = None) -> Tensor:
    return _shifted(node, a, a0, -2) @ _shifted(node, b, b0, -1)


@operator("QLinearConv", host=(7,))
def qlinear_conv(node: Node, x: Tensor, xs: Tensor, x0: Tensor, w: Tensor, ws: Tensor, w0: Tensor, ys: Tensor,
                 y0: Value, bias: Tensor | None = None) -> Tensor:  # fmt: skip
    offset = None if bias is None else bias.to(node.dtype) * xs * ws
    y = conv(node, dequantise(node, x, xs, x0), dequantise(node, w, ws, w0, 0), offset)
    return quantise(node, y, ys, y0)


@operator("QLinearMatMul", host=(7,))
def qlinear_matmul(node: Node, a: Tensor, as_: Tensor, a0: Tensor, b: Tensor, bs: Tensor, b0: Tensor, ys: Tensor,
                   y0: Value) -> Tensor:  # fmt: skip
    y = dequantise(node, a, as_, a0, -2) @ dequantise(node, b, bs, b0, -1)
    return quantise(node, y, ys, y0, -2)
