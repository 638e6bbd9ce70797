"""Small graphs for feature maps that stay on a device: they run there, so that only results are copied to the host.

    channels_model   reshapes the feature tensor to masks (K,1,*grid), and computes of each its range and its largest
                     absolute value, which tell the maps that vary
    picking_model    selects masks and scales them by 1 or -1
    summing_model    weighted sums of the maps
    batching_model   gives a picture the batch axis that it lacks

They do not contain the user's model. network/device_features.py runs them.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir

from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.graphs.cell_maps import cell_maps
from onnxcam.surgeon.graphs.masked_score import FEATURES
from onnxcam.surgeon.ir import Model, new_input

CHANNELS, FINITE, EXTENT, PEAK = "onnxcam/channels", "onnxcam/finite", "onnxcam/extent", "onnxcam/peak"
ROWS, CHOSEN, SIGN, PICKED = "onnxcam/rows", "onnxcam/chosen", "onnxcam/sign", "onnxcam/picked"
WEIGHTS, SUM = "onnxcam/weights", "onnxcam/sum"


def channels_model(tensor: FeatureTensor) -> Model:
    """The graph from the feature tensor to the maps of its first sample.

    Input: FEATURES (N,...) float32, in the tensor's axis order. Outputs: CHANNELS (K,1,*grid) float32, as
    tensor.to_channels() on the host; FINITE () bool, whether all numbers are finite; EXTENT (K,) float32, maximum minus
    minimum of each map; PEAK (K,) float32, the largest absolute value of each map. Raises ModelError if the tensor's
    shape is not known.
    """
    model = empty_model("channels")
    b, order = Builder(model, "onnxcam/channels"), tensor.order
    x = new_input(model, FEATURES, onnx_ir.DataType.FLOAT, ["images", *tensor.sides])
    x = b("Gather", x, b.constant([0], np.int64), axis=0)
    x = cell_maps(b, x, order, tensor.sides)
    shape = [tensor.channels, 1, *tensor.grid]
    maps = b("Reshape", x, b.constant(shape, np.int64), name=CHANNELS)
    size = b("Abs", maps)
    finite = b.cast(b("Less", size, b.constant(np.inf, np.float32)), onnx_ir.DataType.FLOAT)  # False for NaN too
    everywhere = b.reduce("ReduceMin", finite, range(len(shape)), keepdims=False)
    high, low, peak = (
        b.reduce(f"Reduce{which}", x, range(1, len(shape)), keepdims=False)
        for which, x in (("Max", maps), ("Min", maps), ("Max", size))
    )
    publish(model, maps, onnx_ir.DataType.FLOAT, shape)
    publish(model, b("Greater", everywhere, b.constant(0, np.float32), name=FINITE), onnx_ir.DataType.BOOL, [])
    publish(model, b("Sub", high, low, name=EXTENT), onnx_ir.DataType.FLOAT, shape[:1])
    publish(model, b("Identity", peak, name=PEAK), onnx_ir.DataType.FLOAT, shape[:1])
    return model


def picking_model(rank: int) -> Model:
    """The graph from ROWS (K,...), CHOSEN (k,) int64 and SIGN () to PICKED (k,...): the chosen rows times SIGN.

    rank: number of axes of ROWS.
    """
    model = empty_model("pick")
    b, sides = Builder(model, "onnxcam/pick"), [f"side {i}" for i in range(1, rank)]
    rows = new_input(model, ROWS, onnx_ir.DataType.FLOAT, ["rows", *sides])
    chosen = b("Gather", rows, new_input(model, CHOSEN, onnx_ir.DataType.INT64, ["chosen"]), axis=0)
    sign = new_input(model, SIGN, onnx_ir.DataType.FLOAT, [])
    publish(model, b("Mul", chosen, sign, name=PICKED), onnx_ir.DataType.FLOAT, ["chosen", *sides])
    return model


def summing_model(tensor: FeatureTensor, dtype: onnx_ir.DataType = onnx_ir.DataType.DOUBLE) -> Model:
    """The graph from CHANNELS (K,1,*grid) and WEIGHTS (T,K) of this type, in which the sum runs, to SUM (T,cells)."""
    model = empty_model("sum")
    b = Builder(model, "onnxcam/sum")
    maps = new_input(model, CHANNELS, onnx_ir.DataType.FLOAT, [tensor.channels, 1, *tensor.grid])
    weights = new_input(model, WEIGHTS, dtype, ["targets", tensor.channels])
    total = b("MatMul", weights, b.cast(b.reshape(maps, [tensor.channels, -1]), dtype))
    publish(
        model, b("Cast", total, to=int(onnx_ir.DataType.FLOAT), name=SUM), onnx_ir.DataType.FLOAT, ["targets", "cells"]
    )
    return model


def batching_model(sides: Sequence[int]) -> Model:
    """The graph from ROWS (*sides) to PICKED (1,*sides): a picture without a batch axis gets one."""
    model = empty_model("batch")
    b = Builder(model, "onnxcam/batch")
    shape = b.constant([1, *sides], np.int64)
    batch = b("Reshape", new_input(model, ROWS, onnx_ir.DataType.FLOAT, sides), shape, name=PICKED)
    publish(model, batch, onnx_ir.DataType.FLOAT, [1, *sides])
    return model
