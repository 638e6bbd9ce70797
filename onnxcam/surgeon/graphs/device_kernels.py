"""Small graphs for feature maps that stay on a device: they run there, so that only results are copied to the host.

    channels_model   reshapes the feature tensor to masks (K,1,*grid), and computes of each its range and its largest
                     absolute value, which tell the maps that vary
    picking_model    selects rows of a matrix and scales them by 1 or -1
    summing_model    weighted sums of the rows of a matrix

They do not contain the user's model. network/device_features.py runs them.
"""

import numpy as np
import onnx_ir

from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.graphs.cell_maps import cell_maps
from onnxcam.surgeon.graphs.masked_score import FEATURES
from onnxcam.surgeon.ir import Model, Value, new_input

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


def picking_model() -> Model:
    """The graph from ROWS (K,n), CHOSEN (k,) int64 and SIGN () to PICKED (k,n): the chosen rows times SIGN."""
    model = empty_model("pick")
    b = Builder(model, "onnxcam/pick")
    chosen = b("Gather", _rows(model), new_input(model, CHOSEN, onnx_ir.DataType.INT64, ["chosen"]), axis=0)
    sign = new_input(model, SIGN, onnx_ir.DataType.FLOAT, [])
    publish(model, b("Mul", chosen, sign, name=PICKED), onnx_ir.DataType.FLOAT, ["chosen", "numbers"])
    return model


def summing_model() -> Model:
    """The graph from ROWS (K,n) float32 and WEIGHTS (T,K) float64 to SUM (T,n) float32; the sum runs in float64."""
    model = empty_model("sum")
    b = Builder(model, "onnxcam/sum")
    rows = b.cast(_rows(model), onnx_ir.DataType.DOUBLE)
    weights = new_input(model, WEIGHTS, onnx_ir.DataType.DOUBLE, ["targets", "rows"])
    total = b("Cast", b("MatMul", weights, rows), to=int(onnx_ir.DataType.FLOAT), name=SUM)
    publish(model, total, onnx_ir.DataType.FLOAT, ["targets", "numbers"])
    return model


def _rows(model: Model) -> Value:
    return new_input(model, ROWS, onnx_ir.DataType.FLOAT, ["rows", "numbers"])
