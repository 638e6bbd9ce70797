"""The last step of an explanation as a graph: normalise(ReLU(upsample(raw))), for a map that is not made on the host.

On the host methods/maps.py does the same in numpy.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir

from onnxcam.resampling import LARGEST_MATRIX
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.graphs.masked_score import upsampled
from onnxcam.surgeon.graphs.tensor_names import MAP as MAP
from onnxcam.surgeon.graphs.tensor_names import RAW as RAW
from onnxcam.surgeon.ir import Model, Value, new_input


def finishing_model(grid: tuple[int, ...], size: tuple[int, ...], *, coarse: bool) -> Model:
    """The graph from RAW (*grid) float32 to MAP (*size) float32 in [0,1].

    coarse: ReLU is applied before the upsampling as well. A map without positive values is not rectified. A constant
    map becomes zeros.
    """
    model = empty_model("finish")
    b = Builder(model, "onnxcam/finish")
    raw = b.reshape(new_input(model, RAW, onnx_ir.DataType.FLOAT, grid), [1, 1, *grid])
    fine = finished(b, raw, grid, size, coarse=coarse)
    publish(model, b("Reshape", fine, b.constant(list(size), np.int64), name=MAP), onnx_ir.DataType.FLOAT, size)
    return model


def finished(
    b: Builder,
    raw: Value,
    grid: tuple[int, ...],
    size: tuple[int, ...],
    *,
    coarse: bool,
    largest: int = LARGEST_MATRIX,
) -> Value:
    """Raw maps (N,1,*grid) float32 to (N,1,*size) in [0,1], each by itself, as finishing_model() says.

    A constant map becomes zeros. largest: as upsampled() takes it.
    """
    axes = list(range(2, 2 + len(size)))

    def rectified(x: Value) -> Value:
        positive = b("Greater", b.reduce("ReduceMax", x, axes), b.constant(0, np.float32))
        return b("Where", positive, b("Relu", x), x)

    return stretched(b, rectified(upsampled(b, rectified(raw) if coarse else raw, grid, size, largest)), axes)


def stretched(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    """Min-max over these axes to [0,1]. What is constant over them becomes zeros."""
    low = b.reduce("ReduceMin", x, axes)
    extent = b("Sub", b.reduce("ReduceMax", x, axes), low)
    constant = b.cast(b("Equal", extent, b.constant(0, np.float32)), onnx_ir.DataType.FLOAT)
    return b("Div", b("Sub", x, low), b("Add", extent, constant))


def sound(b: Builder, raw: Value, axes: Sequence[int]) -> Value:
    """Bool, of the shape of `raw` with 1 in the place of these axes: whether no number over them is NaN or infinite."""
    nothing = b.reduce("ReduceSum", b("Mul", raw, b.constant(0, np.float32)), axes)
    return b("Equal", nothing, b.constant(0, np.float32))
