"""Expose a tensor inside the graph as one more output, and nothing else."""

import onnx_ir

from onnxcam.errors import ModelError, UnknownLayer
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Shape, Value, find_value, recorded_type, without_recorded_shapes
from onnxcam.surgeon.passes.quantised import dequantised, scale_of

DEQUANTISED = "/dequantised"
"""Ends the name of a quantised tensor that is returned as real numbers."""


def expose(model: Model, tensor: str, shape: Shape, image: str | None = None) -> Model:
    """A model that returns `tensor` after its own outputs, under its own name; a quantised one as real numbers.

    shape is for one picture: the batch axis is dynamic where it is in the input `image` (the first one if None).
    """
    original = find_value(model, tensor)
    if original is None:
        raise UnknownLayer(f"no tensor is called {tensor!r}")
    copy = without_recorded_shapes(model)
    value = find_value(copy, tensor)
    assert value is not None
    if value.is_graph_output():
        return copy
    if scale_of(value) is not None:
        value = dequantised(Builder(copy, "onnxcam"), value)
        value.name = f"{tensor}{DEQUANTISED}"
        value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    else:
        value.type = original.type or recorded_type(model, tensor) or onnx_ir.TensorType(_float_type(copy))
    _publish(copy, value, shape, image)
    return copy


def _publish(model: Model, value: Value, shape: Shape, image: str | None) -> None:
    value.shape = onnx_ir.Shape([_batch_of(model, image), *shape[1:]])
    model.graph.outputs.append(value)


def _float_type(model: Model) -> onnx_ir.DataType:
    types = [v.dtype for v in model.graph.outputs if v.dtype in (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16)]
    if not types or types[0] is None:
        raise ModelError("the feature tensor's number type cannot be told; export the model with shape inference")
    return types[0]


def _batch_of(model: Model, image: str | None) -> int | str | None:
    for value in model.graph.inputs:
        if image in (None, value.name) and value.shape is not None and len(value.shape) > 0:
            first = value.shape[0]
            return first if isinstance(first, int) else first.value
    return None
