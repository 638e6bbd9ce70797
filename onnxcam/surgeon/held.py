"""What is asked of feature maps that stay on a device, as graphs that run there.

None of them knows the network: they take its feature tensor, or rows of numbers, from where these lie.
"""

import numpy as np
import onnx_ir as ir

from onnxcam.surgeon.anatomy import FeatureTensor
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graph import Model, Value, new_input
from onnxcam.surgeon.masking import FEATURES

CHANNELS, FINITE, LIVE = "onnxcam/channels", "onnxcam/finite", "onnxcam/live"
ROWS, CHOSEN, SIGN, PICKED = "onnxcam/rows", "onnxcam/chosen", "onnxcam/sign", "onnxcam/picked"
WEIGHTS, SUM = "onnxcam/weights", "onnxcam/sum"
OPSET, IR_VERSION = 17, 8


def channels_model(tensor: FeatureTensor) -> Model:
    """FEATURES, the network's tensor, whose first picture is meant, to CHANNELS (K,1,*grid), FINITE () and LIVE (K,).

    CHANNELS are tensor.to_channels(), LIVE is methods.blocks.live(), both to the bit.
    """
    model = _empty("channels")
    b, (order, cells) = Builder(model, "onnxcam/channels"), tensor.channels_first
    given = [int(d or 0) for d in tensor.shape[1:]]
    x = new_input(model, FEATURES, ir.DataType.FLOAT, ["pictures", *given])
    x = b("Transpose", b("Gather", x, b.constant([0], np.int64), axis=0), perm=order)
    if cells != slice(None):
        last = len(order) - 1
        x = b("Slice", x, *(b.constant([n], np.int64) for n in (cells.start, cells.stop, last)))
    shape = [tensor.channels, 1, *tensor.grid]
    maps = b("Reshape", x, b.constant(shape, np.int64), name=CHANNELS)
    finite = b("Less", b("Abs", maps), b.constant(np.inf, np.float32))  # NaN is less than nothing
    everywhere = b.reduce("ReduceMin", b.cast(finite, ir.DataType.FLOAT), range(len(shape)), keepdims=False)
    space = range(1, len(shape))
    extent = b("Sub", *(b.reduce(f"Reduce{end}", maps, space, keepdims=False) for end in ("Max", "Min")))
    rounding = b("Mul", b.reduce("ReduceMax", b("Abs", maps), space, keepdims=False),
                 b.constant(8 * np.finfo(np.float32).eps, np.float32))  # fmt: skip
    _publish(model, maps, ir.DataType.FLOAT, shape)
    _publish(model, b("Greater", everywhere, b.constant(0, np.float32), name=FINITE), ir.DataType.BOOL, [])
    _publish(model, b("Greater", extent, rounding, name=LIVE), ir.DataType.BOOL, shape[:1])
    return model


def picking_model() -> Model:
    """ROWS (K,n), CHOSEN (k,) int64 and SIGN () to PICKED (k,n): the chosen rows, times 1 or -1."""
    model = _empty("pick")
    b = Builder(model, "onnxcam/pick")
    chosen = _chosen(model, b)
    sign = new_input(model, SIGN, ir.DataType.FLOAT, [])
    _publish(model, b("Mul", chosen, sign, name=PICKED), ir.DataType.FLOAT, ["chosen", "numbers"])
    return model


def summing_model() -> Model:
    """ROWS (K,n), CHOSEN (k,) int64 and WEIGHTS (T,k) float64 to SUM (T,n) float32, added up in float64."""
    model = _empty("sum")
    b = Builder(model, "onnxcam/sum")
    chosen = b.cast(_chosen(model, b), ir.DataType.DOUBLE)
    weights = new_input(model, WEIGHTS, ir.DataType.DOUBLE, ["targets", "chosen"])
    found = b("Cast", b("MatMul", weights, chosen), to=int(ir.DataType.FLOAT), name=SUM)
    _publish(model, found, ir.DataType.FLOAT, ["targets", "numbers"])
    return model


def _empty(name: str) -> Model:
    return Model(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name), ir_version=IR_VERSION)


def _chosen(model: Model, b: Builder) -> Value:
    rows = new_input(model, ROWS, ir.DataType.FLOAT, ["rows", "numbers"])
    return b("Gather", rows, new_input(model, CHOSEN, ir.DataType.INT64, ["chosen"]), axis=0)


def _publish(model: Model, value: Value, dtype: ir.DataType, shape: list[int] | list[str]) -> None:
    value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
    model.graph.outputs.append(value)
