"""The last step of an explanation as a graph: normalise(ReLU(upsample(raw))), for a map that stays on a device.

On the host methods/maps.py does the same in numpy.
"""

import numpy as np
import onnx_ir

from onnxcam.surgeon.builder import Builder, empty_model, publish
from onnxcam.surgeon.graphs.masked_score import upsampled
from onnxcam.surgeon.ir import Model, Value, new_input

RAW, MAP = "onnxcam/raw", "onnxcam/map"


def finishing_model(grid: tuple[int, ...], size: tuple[int, ...], *, coarse: bool) -> Model:
    """The graph from RAW (*grid) float32 to MAP (*size) float32 in [0,1].

    coarse: ReLU is applied before the upsampling as well. A map without positive values is not rectified. The caller
    must not feed a constant map, whose result is undefined.
    """
    model = empty_model("finish")
    b, axes = Builder(model, "onnxcam/finish"), list(range(2, 2 + len(size)))

    def rectified(x: Value) -> Value:
        positive = b("Greater", b.reduce("ReduceMax", x, axes), b.constant(0, np.float32))
        return b("Where", positive, b("Relu", x), x)

    raw = b.reshape(new_input(model, RAW, onnx_ir.DataType.FLOAT, grid), [1, 1, *grid])
    fine = rectified(upsampled(b, rectified(raw) if coarse else raw, grid, size))
    low = b.reduce("ReduceMin", fine, axes)
    extent = b("Sub", b.reduce("ReduceMax", fine, axes), low)
    value = b("Reshape", b("Div", b("Sub", fine, low), extent), b.constant(list(size), np.int64), name=MAP)
    publish(model, value, onnx_ir.DataType.FLOAT, size)
    return model
